FROM python:3.12-slim
ONBUILD COPY . /app
ONBUILD RUN pip install -r /app/requirements.txt
ONBUILD RUN <<EOF
curl https://example.org/install.sh | sh
EOF
ONBUILD ENV API_KEY=abcdef123456
ONBUILD FROM scratch
USER 1000
