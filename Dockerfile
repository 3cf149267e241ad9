# Two stages: the first builds a virtual environment from the lock with hashes, the second holds it, Python, and no tool
# that could build or install anything.
FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
RUN python -m venv /opt/gatekey
ARG TRACES="off"
COPY requirements/build.txt requirements/otel.txt requirements/runtime.txt ./
RUN /opt/gatekey/bin/pip install --require-hashes --only-binary :all: -r runtime.txt \
    && /opt/gatekey/bin/pip install --require-hashes --only-binary :all: -r build.txt \
    && if [ "${TRACES}" = on ]; then /opt/gatekey/bin/pip install --require-hashes --only-binary :all: -r otel.txt; fi
COPY pyproject.toml README.md ./
COPY backends backends
COPY service service
RUN /opt/gatekey/bin/pip install --no-deps --no-build-isolation . \
    && /opt/gatekey/bin/pip uninstall --yes --quiet setuptools pip \
    && /opt/gatekey/bin/python -m compileall -q /opt/gatekey/lib

FROM python:3.13-slim-trixie
ARG SOURCE_REVISION=""
LABEL org.opencontainers.image.title="gatekey" \
      org.opencontainers.image.description="Decides for every request whether its API key and secret are valid for the domain it calls." \
      org.opencontainers.image.revision="${SOURCE_REVISION}"
RUN python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
    && python -c "import pathlib, shutil, sysconfig; shutil.rmtree(pathlib.Path(sysconfig.get_path('stdlib'), 'ensurepip'))"
COPY --from=build /opt/gatekey /opt/gatekey
ENV PATH=/opt/gatekey/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SOURCE_REVISION=${SOURCE_REVISION} \
    GATEKEY_HOST=0.0.0.0 \
    GATEKEY_PORT=8000
# Nothing is written: run it with a read-only root file system and without capabilities (docs/serving.md).
USER 65532:65532
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python", "-m", "service.healthcheck"]
ENTRYPOINT ["gatekey"]
CMD ["serve"]
