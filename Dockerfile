# Two stages: the first builds a virtual environment from the lock with hashes, the second holds nothing but it and the code.
FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
RUN python -m venv /opt/gatekey
COPY requirements/build.txt requirements/runtime.txt ./
RUN /opt/gatekey/bin/pip install --require-hashes --only-binary :all: -r runtime.txt \
    && /opt/gatekey/bin/pip install --require-hashes --only-binary :all: -r build.txt
COPY pyproject.toml README.md ./
COPY backends backends
COPY service service
RUN /opt/gatekey/bin/pip install --no-deps --no-build-isolation . \
    && /opt/gatekey/bin/python -m compileall -q /opt/gatekey/lib \
    && /opt/gatekey/bin/pip uninstall --yes --quiet setuptools pip

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="gatekey" \
      org.opencontainers.image.description="Decides for every request whether its API key and secret are valid for the domain it calls."
COPY --from=build /opt/gatekey /opt/gatekey
ENV PATH=/opt/gatekey/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEKEY_HOST=0.0.0.0 \
    GATEKEY_PORT=8000
# Nothing is written: run it with a read-only root file system and without capabilities.
USER 65532:65532
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:' + os.environ['GATEKEY_PORT'] + '/livez', timeout=2)"]
ENTRYPOINT ["gatekey"]
CMD ["serve"]
