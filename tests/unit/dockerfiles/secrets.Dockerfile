FROM python:3.12-slim
ARG PIP_TOKEN
ARG CACHE_KEY=v1
ENV DB_HOST=db DB_PASSWORD="hunter2" \
    # a comment between
    API_TOKEN_FILE=/run/secrets/token \
    SECRET_KEY='' \
    DATABASE_URL=postgresql://app:s3cr3t@db/app
RUN pip install --no-cache-dir \
      --index-url https://user:pa55@pypi.example.org/simple \
      -r requirements.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf pip install --no-cache-dir shop
RUN git clone https://oauth2:${GIT_TOKEN}@example.org/shop.git
COPY .env id_rsa /srv/
COPY .env.example /srv/
USER 1000
HEALTHCHECK CMD true
