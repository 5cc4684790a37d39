FROM ubuntu:22.04
RUN apt-get update
RUN apt-get install curl git sudo
RUN curl -sSL https://install.python-poetry.org | python3 -
RUN curl -fsSL https://deb.nodesource.com/setup_20.x | sudo -E bash - \
    && sudo apt-get install -y nodejs
RUN wget -qO- https://sh.rustup.rs | sh -s -- -y
RUN bash -c "$(curl -fsSL https://example.org/install.sh)"
RUN curl -s https://example.org/releases.json | python3 -c 'import json,sys; print(json.load(sys.stdin)["tag"])'
RUN curl -fsSLO https://example.org/tool.tar.gz | tar -xz; echo done | sh
ADD https://example.org/tool.tar.gz /opt/
ADD --checksum=sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d https://example.org/a /a
RUN chmod -R 777 /opt && chmod a+rwx /var/tool
