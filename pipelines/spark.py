"""A Spark session on this machine: its Java, its memory, and nothing written outside the home."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from pipelines import errors, java
from pipelines.errors import NightshelfError
from pipelines.run import Run
from pipelines.settings import Settings

T = TypeVar("T")
R = TypeVar("R")
SLICES_PER_CORE = 4
ERROR = "_error"  # column of what an executor says instead of a table
LOGGING = Path(__file__).with_name("log4j2.properties")
# Java leaves methods of more than 8000 bytes interpreted, three times slower; the rules of one row make such a method.
# Its parallel collector takes less CPU than the default one, whose short pauses nobody waits for here.
# MLlib's tasks are unpacked recursively, beyond the default depth of a stack.
JAVA = "-XX:-DontCompileHugeMethods -XX:+UseParallelGC -Xss8m"
SHORT_ROWS = 2_000_000  # of fewer rows the job is over before Java's second, slower compiler has paid for itself
ONE_COMPILER = "-XX:TieredStopAtLevel=1"
SECONDS_TO_END = 2  # between the last word of a Java process that was killed and its end


class SparkFailed(Exception):
    """What Spark said; its own exceptions have no text any more once its Java process has ended."""


def session(run: Run, count_rows: int) -> AbstractContextManager[SparkSession]:
    """A session in UTC for a job on so many rows; stopped, with its Java process, at the end.

    Raises SparkFailed, and MemoryError when the Java process is ended by something else.
    """
    options = f"{JAVA} {ONE_COMPILER}" if count_rows < SHORT_ROWS else JAVA
    master = run.settings.clean.spark_master or f"local[{run.settings.machine.threads}]"
    return _session(run.home, run.run_id, run.settings, master, options)


def catalog(home: Path, told: Settings, metastore: str) -> AbstractContextManager[SparkSession]:
    """A session that says what tables a Hive metastore has, and reads none of their rows: no executor is started."""
    further = {"spark.sql.catalogImplementation": "hive", "spark.hadoop.hive.metastore.uris": metastore}
    return _session(home, "warehouse", told, "local[1]", f"{JAVA} {ONE_COMPILER}", further)


@contextmanager
def _session(
    home: Path, name: str, told: Settings, master: str, options: str, further: Mapping[str, str] = MappingProxyType({})
) -> Iterator[SparkSession]:
    scratch = home / "spark" / name
    scratch.mkdir(parents=True, exist_ok=True)
    os.environ["JAVA_HOME"] = str(java.find(home))
    os.environ["PYSPARK_PYTHON"] = sys.executable
    spark = (
        _reachable(SparkSession.builder.master(master), master)
        .appName(name)
        .config("spark.driver.memory", f"{told.clean.memory_mb}m")
        .config("spark.local.dir", str(scratch))
        .config("spark.sql.warehouse.dir", str(scratch / "warehouse"))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", str(4 * told.machine.threads))
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.sql.sources.parallelPartitionDiscovery.threshold", "100000")  # a job to list files takes longer
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.extraJavaOptions", f"{options} -Dlog4j2.configurationFile={LOGGING.as_uri()}")
        .config("spark.executor.extraJavaOptions", options)
        .config(map=dict(further))
        .getOrCreate()
    )
    try:
        yield spark
    except (PySparkException, Py4JError, ConnectionError) as error:
        raise _told(error).with_traceback(error.__traceback__) from None
    finally:
        _stop(spark)


def _reachable(builder: SparkSession.Builder, master: str) -> SparkSession.Builder:
    """Nobody beyond this machine reaches a driver whose executors are here; else its address is Spark's own affair."""
    if not master.startswith("local"):
        return builder
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    return builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")


def each(spark: SparkSession, function: Callable[[T], R], values: Iterable[T]) -> list[R]:
    """`function` of every value, on Spark's executors, in order; what a person can act on is raised as it was there."""

    def attempt(value: T) -> R | NightshelfError:
        try:
            return function(value)
        except NightshelfError as error:
            return error

    todo = list(values)
    if len(todo) < 2:  # to start a Python worker takes longer
        return [function(value) for value in todo]
    slices = min(len(todo), SLICES_PER_CORE * spark.sparkContext.defaultParallelism)
    done = spark.sparkContext.parallelize(todo, slices).map(attempt).collect()
    results: list[R] = []
    for result in done:
        if isinstance(result, NightshelfError):
            raise result
        results.append(result)
    return results


def tables(
    spark: SparkSession, function: Callable[[int], pa.Table], numbers: range, schema: pa.Schema, scratch: Path
) -> Iterator[pa.Table]:
    """`function` of every number, a task each on Spark's executors, in order and without the empty ones.

    Executors write into `scratch`, a new folder that they share with this process, which reads and removes a table at a
    time. What a person can act on is raised as it was there.
    """

    def attempt(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for number in (number for batch in batches for number in batch["id"].to_pylist()):
            try:
                found = function(number)
            except NightshelfError as error:
                said = pa.array([f"{type(error).__name__}: {error}"])
                found = pa.table([pa.nulls(1, field.type) for field in schema], schema).append_column(ERROR, said)
            else:
                found = found.append_column(ERROR, pa.nulls(len(found), pa.string()))
            yield from found.to_batches()

    todo = spark.range(numbers.start, numbers.stop, numbers.step, max(len(numbers), 1))
    told = todo.mapInArrow(attempt, from_arrow_schema(schema).add(ERROR, "string"))
    told.write.parquet(str(scratch))
    for path in sorted(scratch.glob("part-*"), key=lambda path: int(path.name.split("-")[1])):
        table = pq.read_table(path)
        for said in table[ERROR].drop_null().to_pylist():
            name, _, text = said.partition(": ")
            raise getattr(errors, name, NightshelfError)(text)
        if table.num_rows:
            yield table.select(schema.names).cast(schema)
        path.unlink()
    shutil.rmtree(scratch)


def _told(error: Exception) -> Exception:
    """The error in words that outlive the session."""
    assert SparkContext._gateway is not None
    try:
        code = SparkContext._gateway.proc.wait(timeout=SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        return SparkFailed(str(error))
    return MemoryError(f"Spark's Java process ended amid its work, with exit code {code}")


def _stop(spark: SparkSession) -> None:
    """Stop the session and the Java process behind it, which a stopped session alone leaves to the end of Python."""
    gateway = SparkContext._gateway
    if gateway is not None and gateway.proc.poll() is not None:
        _forget(spark)
    else:
        spark.stop()
    if gateway is not None:
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(timeout=30)
        SparkContext._gateway = SparkContext._jvm = None


def _forget(spark: SparkSession) -> None:
    """What `stop` does, without asking a Java process that has ended."""
    spark.sparkContext._jsc = None
    spark.sparkContext.stop()
    SparkSession._instantiatedSession = SparkSession._activeSession = None
