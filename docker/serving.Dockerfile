# The server: the wheel with what serving needs; no Spark, no Airflow, no Great Expectations.
# Build from the repository root: docker build -f docker/serving.Dockerfile -t lookalike-serving .
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheel

FROM python:3.11-slim
COPY requirements.txt /tmp/requirements.txt
COPY --from=wheel /wheel/*.whl /tmp/
# requirements.txt pins the versions; the extras choose what is installed.
RUN wheel=$(ls /tmp/*.whl) \
 && pip install --no-cache-dir --constraint /tmp/requirements.txt "${wheel}[serving,models,index,storage,releases,catalogue]" \
 && rm -rf /tmp/* && useradd --create-home lookalike && mkdir /data && chown lookalike /data
USER lookalike
WORKDIR /data
ENV LOOKALIKE_HOME=/data LOOKALIKE_SERVING__HOST=0.0.0.0
EXPOSE 8080
HEALTHCHECK --interval=10s --start-period=60s CMD python -c "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz')"
CMD ["lookalike", "serve"]
