# Nightshelf with Airflow, Spark's Java and everything a night needs. As it stands it runs all of Airflow in one container:
#   docker build -t nightshelf . && docker run -p 127.0.0.1:8080:8080 -v shop:/data nightshelf
# compose.yaml splits Airflow into services. A smaller image on machines without a GPU: pass the index of PyTorch's
# CPU builds as --build-arg PIP_EXTRA_INDEX_URL=….

FROM python:3.11-slim-bookworm AS builder
ARG PIP_EXTRA_INDEX_URL=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN python -m venv /opt/venv
WORKDIR /opt/nightshelf
COPY requirements.txt requirements.in pyproject.toml ./
RUN pip install -r requirements.txt
COPY pipelines pipelines
COPY models models
RUN pip install --no-deps -e .

FROM python:3.11-slim-bookworm
# Java for Spark, procps for Spark's launch scripts, libgomp for implicit. Debian's release is the pin: its mirrors keep
# no older builds.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends openjdk-17-jre-headless procps libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --create-home nightshelf \
 && install -d -o nightshelf -g nightshelf /data
COPY --from=builder /opt/venv /opt/venv
COPY --from=builder /opt/nightshelf /opt/nightshelf
WORKDIR /opt/nightshelf
COPY nightshelf.env ./
COPY bin bin
COPY dags dags
COPY dbt dbt
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NIGHTSHELF_HOME=/data \
    AIRFLOW_HOME=/data/airflow \
    AIRFLOW__CORE__DAGS_FOLDER=/opt/nightshelf/dags \
    AIRFLOW__API__HOST=0.0.0.0 \
    AIRFLOW__API__PORT=8080
USER 10001
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/api/v2/monitor/health', timeout=8)"]
CMD ["python", "bin/airflow_local.py"]
