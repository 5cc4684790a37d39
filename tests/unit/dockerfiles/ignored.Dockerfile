# longshore: ignore=latest-base the newest is what this image is for
FROM python
# longshore: ignore=secret
ARG TOKEN
RUN apt-get update \
    # longshore: ignore=apt-recommends,apt-lists thrown away at once
    && apt-get install -y vim
# longshore: ignore=no-such-rule because
RUN true
# longshore: ignore
RUN true
# longshore: ignore=sudo there is none
RUN true
# longshore: ignore=root-user it binds port 80
USER root
