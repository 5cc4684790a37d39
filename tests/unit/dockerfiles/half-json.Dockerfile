from python:3.11-slim
maintainer someone@example.org
ENV PYTHONUNBUFFERED 1
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY ["app", "app"]
USER app
EXPOSE 8000/tcp
HEALTHCHECK CMD curl -f http://localhost:8080/health || exit 1
CMD python manage.py migrate && ["gunicorn", "--bind", ":8000", "site.wsgi"]
