"""Tables of Spark SQL keep the promise that files keep: a statement sees one whole release, and nobody is locked out."""

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from pipelines import contracts, retention, settings, show, spark, warehouse
from pipelines.errors import BadSetting, HeldBack, NothingPublished, NoWarehouse
from pipelines.run import Run
from pipelines.warehouse.spark_sql import SparkSql
from tests.lake import run_of
from tests.metastore import Metastore
from tests.test_postgres import ITEMS, made, publish

ENGINE = {"warehouse.engine": "spark"}
MOVES = 12


@pytest.fixture(scope="module")
def metastore() -> Iterator[Metastore]:
    server = Metastore()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def session(metastore: Metastore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """A session of Spark SQL, started once: to start one takes longer than all that is asked of it here."""
    with spark.catalog(tmp_path_factory.mktemp("spark"), settings.Settings(), metastore.address) as session:
        yield session


@pytest.fixture
def run(tmp_path: Path, metastore: Metastore, session: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run that publishes to schemas of its own."""
    monkeypatch.setenv("NIGHTSHELF_WAREHOUSE__ENGINE", "spark")
    monkeypatch.setenv("NIGHTSHELF_WAREHOUSE__METASTORE", metastore.address)
    monkeypatch.setattr(spark, "catalog", lambda *_: nullcontext(session))
    for schema in ("nightshelf", "releases_nightshelf"):
        session.sql(f"drop schema if exists {schema} cascade")
    return run_of(tmp_path)
