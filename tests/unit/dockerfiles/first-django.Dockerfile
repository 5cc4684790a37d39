FROM python:3.9

WORKDIR /site
COPY . /site

RUN pip install -r requirements.txt
RUN echo "SECRET_KEY=django-insecure-0123456789" > .env

ENV DEBUG=True
ENV SECRET_KEY=mysecretkey

EXPOSE 8000
CMD ["python", "manage.py", "runserver", "0.0.0.0:8000"]
