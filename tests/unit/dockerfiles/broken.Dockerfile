# a file that nobody has built for long
RUN true
FROM
FROM python:3.12-slim as builder extra
RUN apt-get update &&
    apt-get install -y vim
COPY
EXPOSE
HEALTHCHECK
CMD [ "python", "app.py",
USER root:root
RUN cat <<END
never ended
