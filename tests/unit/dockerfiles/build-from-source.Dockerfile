FROM debian:bookworm-slim

# the local one first
ENV PATH=/usr/local/bin:$PATH
ENV GPG_KEY=0123456789ABCDEF0123456789ABCDEF01234567
ENV PYTHON_VERSION 3.12.4

RUN set -eux; \
	\
	savedAptMark="$(apt-mark showmanual)"; \
	apt-get update; \
	apt-get install -y --no-install-recommends \
		dpkg-dev \
		gcc \
# only where it isn't there yet
		$( command -v gpg > /dev/null || echo 'gnupg dirmngr' ) \
		make \
		wget \
	; \
	wget -O python.tar.xz "https://www.python.org/ftp/python/${PYTHON_VERSION%%[a-z]*}/Python-$PYTHON_VERSION.tar.xz"; \
	GNUPGHOME="$(mktemp -d)"; export GNUPGHOME; \
	gpg --batch --verify python.tar.xz.asc python.tar.xz; \
	{ command -v gpgconf > /dev/null && gpgconf --kill all || :; }; \
	make -j "$(nproc)" "EXTRA_CFLAGS=${EXTRA_CFLAGS:-}"; \
	\
	apt-mark auto '.*' > /dev/null; \
	apt-get purge -y --auto-remove gcc make dpkg-dev; \
	rm -rf /var/lib/apt/lists/*; \
	find /usr/local -depth \( -type d -a \( -name test -o -name idle_test \) \) -exec rm -rf '{}' +

CMD ["python3"]
