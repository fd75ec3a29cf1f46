# Everything from a bare machine: Python 3.11 is the one thing assumed; the rest comes from the package registries.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

PYTHON ?= python3.11
UV_VERSION := 0.13.9
UV := .tools/bin/uv
BIN := .venv/bin
CHECK ?=
# line-gpu where an NVIDIA GPU builds indexes: its FAISS takes the place of the other, so `make clean` comes first.
LINE ?= line
PORT ?= 8080
KAFKA_PORT ?= 9092
AIRFLOW_PORT ?= 8081
export UV_PYTHON_DOWNLOADS := never
export UV_PYTHON := $(PYTHON)

.PHONY: help env demo serve airflow kafka test check unit format chromium requirements clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

$(UV):
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed and '$(PYTHON)' was not found."; \
	  echo "Get it (Debian 12: apt-get install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11"; exit 1; }
	$(PYTHON) -m venv .tools || { echo "the venv module is missing (Debian: apt-get install python3.11-venv)"; rm -rf .tools; exit 1; }
	.tools/bin/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.line: $(UV) pyproject.toml uv.lock
	$(UV) sync --frozen --inexact --extra $(LINE) --no-default-groups
	@touch $@

.venv/.airflow: .venv/.line
	$(UV) sync --frozen --inexact --extra $(LINE) --extra airflow --no-default-groups
	@touch $@

.venv/.dev: .venv/.airflow
	$(UV) sync --frozen --inexact --extra $(LINE) --extra airflow --group dev
	@touch $@

env: .venv/.dev ## make .venv with everything that development needs

demo: .venv/.line ## real pictures to a served, gated release; CHECK=1 searches, prints a summary and exits
	$(BIN)/lookalike demo $(if $(CHECK),--check) --port $(PORT)

serve: .venv/.line ## serve the live release again
	$(BIN)/lookalike serve --port $(PORT)

airflow: .venv/.airflow ## Airflow's UI over the demo catalogue, with the server, until Ctrl-C (AIRFLOW_PORT=8081, PORT=8080)
	$(BIN)/lookalike airflow --port $(AIRFLOW_PORT) --server-port $(PORT)

kafka: .venv/.line ## a Kafka broker of one node on this machine, until Ctrl-C (KAFKA_PORT=9092)
	$(BIN)/python -m lookalike.line.kafka_broker --port $(KAFKA_PORT)

test: check chromium ## everything: checks, unit, integration and end-to-end tests (what CI runs)
	@# Airflow's tests wait as long as they work, so they run beside the others; their report comes at the end.
	@report=$$(mktemp -d); trap 'kill $$house' INT TERM; \
	PYTEST_DEBUG_TEMPROOT=$$report $(BIN)/pytest -m slow --durations=20 tests/e2e/airflow >$$report/log 2>&1 & house=$$!; \
	$(BIN)/pytest -m slow --durations=40 --ignore=tests/e2e/airflow; others=$$?; \
	wait $$house; airflow=$$?; cat $$report/log; \
	[ $$others -eq 0 ] && [ $$airflow -eq 0 ] && rm -rf $$report

check: .venv/.dev ## format, lint, types, import layers, quick tests: clean before every commit
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy lookalike models index_builder spark beam dags
	$(BIN)/lint-imports
	$(BIN)/pytest -m "not slow"

unit: .venv/.dev ## the quick tests only
	$(BIN)/pytest -m "not slow"

format: .venv/.dev ## format and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

chromium:
	@command -v chromium || command -v chromium-browser || command -v google-chrome || { \
	  [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null && command -v chromium; } || { \
	  echo "The page is tested in headless Chromium, which was not found. Debian: sudo apt-get install chromium"; exit 1; }

requirements: $(UV) ## write requirements.txt and requirements-gpu.txt, the pinned unions, from uv.lock
	@pinned() { { echo "# Everything, with $$3. Never both in one environment."; \
	  $(UV) export --quiet --frozen --no-emit-project --no-hashes --no-annotate --no-header \
	  --extra $$2 --extra airflow --extra cloud --group dev; } >$$1.new && mv $$1.new $$1; }; \
	pinned requirements.txt line "the FAISS for all machines (faiss-cpu); where a GPU builds indexes: requirements-gpu.txt" && \
	pinned requirements-gpu.txt line-gpu "the FAISS for an NVIDIA GPU (faiss-gpu-cuvs); elsewhere: requirements.txt"

clean: ## remove the environment and caches; catalogue, tables and releases below var/ stay
	rm -rf .venv .tools .cache .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
