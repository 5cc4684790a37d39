FROM python:3.12-slim-bookworm
USER 1000
HEALTHCHECK NONE
CMD ['uvicorn', 'app.main:app']
