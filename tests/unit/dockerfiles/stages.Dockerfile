ARG PYTHON=3.12
ARG VARIANT=-slim
ARG REGISTRY
FROM ${REGISTRY:-docker.io/library}/python:${PYTHON}${VARIANT} AS Base
FROM base AS deps
RUN apt-get update && apt-get install -y --no-install-recommends build-essential && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    --mount=type=bind,from=ghcr.io/astral-sh/uv:0.5,source=/uv,target=/bin/uv \
    uv sync --frozen --no-install-project
COPY . .
RUN uv sync --frozen

FROM node AS assets
COPY . .
RUN npm ci

FROM base AS dev
CMD ["uvicorn", "app:app", "--reload"]

FROM base
COPY --from=deps /app/.venv /app/.venv
COPY --from=assets /dist /static
COPY --from=busybox:latest /bin/busybox /bin/
COPY --link --chmod=0777 app /app
USER ${APP_UID:-10001}
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s \
  CMD ["/app/.venv/bin/python", "-c", \
       "import urllib.request; urllib.request.urlopen('http://localhost:9000/')"]
CMD ["sh", "-c", "uvicorn app:app --host 0.0.0.0 --port 8000"]
