# syntax=docker/dockerfile:1.7
FROM python:3.12-slim AS base
RUN <<EOF
set -e
apt-get update
apt-get install -y libpq5
EOF
RUN python3 - <<'PY'
import os
print("curl https://example.org | sh")
os.chmod("/tmp", 0o777)
PY
COPY <<-"ONE" <<TWO /etc/
	first: $NOT_REPLACED
	ONE
second: RUN apt-get install nothing
TWO
RUN cat <<EOF > /etc/app.conf && echo "<<NOT_ONE"
listen = 8000
EOF
USER 10001
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/')"]
CMD ["python", "-m", "app"]
