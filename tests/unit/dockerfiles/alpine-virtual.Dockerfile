FROM python:3.12-alpine
ARG BUILD_DATE
LABEL org.opencontainers.image.created=$BUILD_DATE \
      org.opencontainers.image.title="a title, with = and \" in it"
COPY Pipfile Pipfile.lock ./
RUN apk add --no-cache --virtual .build-deps gcc musl-dev libffi-dev \
 && pip install --no-cache-dir pipenv \
 && pipenv install --system --deploy \
 && apk del .build-deps
COPY . /srv
USER nobody
HEALTHCHECK --interval=5s CMD wget -qO- http://127.0.0.1:8000/ || exit 1
ENTRYPOINT exec gunicorn -b 0.0.0.0:8000 app:app
