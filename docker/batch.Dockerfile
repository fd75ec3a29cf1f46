# The nightly work: ingest, embed, build, gate, promote. Spark in local mode, or as the driver of a cluster.
# Build from the repository root: docker build -f docker/batch.Dockerfile -t lookalike-batch .
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheel

FROM python:3.11-slim
RUN apt-get update && apt-get install -y --no-install-recommends default-jre-headless && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
COPY --from=wheel /wheel/*.whl /tmp/
RUN wheel=$(ls /tmp/*.whl) \
 && pip install --no-cache-dir --constraint /tmp/requirements.txt "${wheel}[line,cloud]" \
 && rm -rf /tmp/* && useradd --create-home lookalike && mkdir /data && chown lookalike /data
USER lookalike
WORKDIR /data
ENV LOOKALIKE_HOME=/data
ENTRYPOINT ["lookalike"]
CMD ["status"]
