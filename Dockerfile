# Two stages: the first one installs; the second one has neither pip nor a compiler and runs as nobody special.
FROM python:3.12-slim AS build
# For classifiers/_kernel.c. gcc only recommends the headers of libc; Python's own are in the base image.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /opt/coe \
 && /opt/coe/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && python -m venv /opt/build \
 && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.lock
COPY pyproject.toml hatch_build.py README.md providers.yaml ./
COPY service ./service
COPY classifiers ./classifiers
# Elsewhere a build without the kernel only warns; an image without it would be slow and nobody would know why.
RUN /opt/build/bin/python -m hatchling build -t wheel -d /build/dist \
 && /opt/coe/bin/pip install --no-cache-dir --no-deps /build/dist/*.whl \
 && /opt/coe/bin/python -I -c 'from classifiers import kernel; assert kernel.STATE == kernel.COMPILED' \
 && /opt/coe/bin/pip uninstall --yes pip

FROM python:3.12-slim
# The base image brings pip, and a copy of it inside the standard library.
RUN python -m pip uninstall --yes pip && rm -rf /usr/local/lib/python3.12/ensurepip
# The journal and the keys live in /data: mount a volume there. Nothing else is written, so the image can be read-only.
RUN useradd --system --uid 10001 --no-create-home coe && mkdir -m 0700 /data && chown coe /data
COPY --from=build /opt/coe /opt/coe
ENV PATH=/opt/coe/bin:$PATH PYTHONDONTWRITEBYTECODE=1 COE_DATA_DIR=/data COE_HOST=0.0.0.0 COE_PORT=8000
USER coe
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
  CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:' + os.environ['COE_PORT'] + '/healthz', timeout=2)"]
# 0.0.0.0 needs keys: run `coe keys create --name NAME` in the container first (same volume), or it refuses to start.
ENTRYPOINT ["coe"]
CMD ["serve"]
