# Airflow with the line beside it: a task is `python -m lookalike.cli` of this very environment, so the image holds both.
# Build from the repository root: docker build -f docker/airflow.Dockerfile -t lookalike-airflow .
FROM python:3.11-slim AS wheel
WORKDIR /source
COPY . .
RUN pip install --no-cache-dir build && python -m build --wheel --outdir /wheel

# The official image: its entrypoint, user and Celery provider are what the Helm chart counts on.
FROM apache/airflow:3.3.2-python3.11
USER root
RUN apt-get update && apt-get install -y --no-install-recommends default-jre-headless && rm -rf /var/lib/apt/lists/* \
 && mkdir /data && chown airflow:0 /data && chmod g+w /data
USER airflow
COPY requirements.txt /tmp/lookalike/
COPY --from=wheel /wheel/*.whl /tmp/lookalike/
# The wheel, never an editable tree: its packages then cannot be shadowed by a file in dags/.
RUN wheel=$(ls /tmp/lookalike/*.whl) \
 && pip install --no-cache-dir --constraint /tmp/lookalike/requirements.txt "${wheel}[line,cloud,airflow]"
COPY --chown=airflow:0 dags /opt/airflow/dags
ENV LOOKALIKE_HOME=/data AIRFLOW__CORE__LOAD_EXAMPLES=False AIRFLOW__CORE__PLUGINS_FOLDER=/opt/airflow/dags/plugins
# Contact sheets as wide as their page; see `THEME` in lookalike/line/airflow_home.py. An own theme must hold this too.
ENV AIRFLOW__API__THEME='{"globalCss": {"img[src^=lookalike]": {"maxWidth": "100% !important"}}}'
