FROM python:3.12-slim
# März
LABEL author="Jörg"
RUN chmod 0777 /srv
