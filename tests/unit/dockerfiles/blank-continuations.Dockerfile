FROM python:3.12-slim
RUN apt-get update \

  && apt-get install -y \
  # one
     vim \  

     less

RUN echo "a \\"
RUN echo done \\
USER 5
RUN pip install \
