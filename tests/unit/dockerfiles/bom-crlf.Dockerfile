# syntax=docker/dockerfile:1
FROM python:latest
RUN pip install \
    flask
COPY . .
CMD flask run
