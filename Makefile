# One word per daily act; `make help` lists them.

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

include nightshelf.env
export NIGHTSHELF_HOME ?= $(CURDIR)/data
export AIRFLOW_HOME ?= $(NIGHTSHELF_HOME)/airflow
export AIRFLOW__CORE__DAGS_FOLDER := $(CURDIR)/dags
export PATH := $(CURDIR)/$(BIN):$(PATH)
export $(shell sed -n 's/^\([A-Z_]*\)=.*/\1/p' nightshelf.env)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fast lint lock audit docs airflow clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/.ready ## the private environment in .venv, once

$(VENV)/.ready: requirements.txt requirements.in pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
	  echo "Nightshelf needs Python 3.11, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -1). Install it, or name it: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Making the environment in $(VENV) (a few minutes, a few GB) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -c 'import implicit.cpu.als' || { \
	  echo "implicit does not load; if libgomp is what it lacks, install it (Debian: apt-get install libgomp1) and repeat." >&2; exit 1; }
	@touch $@

demo: setup ## a generated shop, one whole night through the Airflow DAG, and what came out
	@test -d "$(NIGHTSHELF_HOME)/raw" || nightshelf generate
	@mkdir -p "$(AIRFLOW_HOME)" && airflow db migrate > "$(AIRFLOW_HOME)/migrate.log" 2>&1 || { cat "$(AIRFLOW_HOME)/migrate.log" >&2; exit 1; }
	@day=$$(ls "$(NIGHTSHELF_HOME)/raw/events" | sed -n 's/^dt=\([0-9-]*\)$$/\1/p' | tail -1) && \
	  echo "The night of $$day, through the DAG nightly_recommendations:" && \
	  AIRFLOW__LOGGING__LOGGING_LEVEL=WARNING $(BIN)/python bin/dag_night.py "{\"day\": \"$$day\"}"
	@nightshelf show demo

test: setup ## all tests, in two processes, each file in one of them
	$(BIN)/pytest --numprocesses 2 --dist loadfile

test-fast: setup ## the tests that start neither Spark, dbt, Airflow, PostgreSQL nor a whole night
	$(BIN)/pytest -m "not slow" --numprocesses 2 --dist loadfile

lint: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## resolve requirements.in anew into requirements.txt
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check -r requirements.in
	build/lock/bin/python bin/lock.py > requirements.txt.partial && mv requirements.txt.partial requirements.txt
	rm -rf build/lock

audit: setup ## known weaknesses of all that requirements.txt pins; asks the package index
	rm -rf build/audit && $(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet --disable-pip-version-check pip-audit
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement requirements.txt

docs: setup ## write the reference pages anew from contract and settings
	$(BIN)/python -m pipelines.reference

airflow: setup ## Airflow with a scheduler on 127.0.0.1:8080; Ctrl-C stops all of it
	@mkdir -p "$(AIRFLOW_HOME)" && exec $(BIN)/python bin/airflow_local.py --quiet

clean: ## remove the environment, caches and build outputs; data/ stays
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis dbt/target dbt/logs metastore_db derby.log spark-warehouse
	find . -name __pycache__ -not -path './data/*' -prune -exec rm -rf {} +
