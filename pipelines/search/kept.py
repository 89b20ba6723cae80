"""Kept: all that answers queries, as rows of the release, so that a release alone answers what nobody has typed yet."""

import base64
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pandas as pd

from pipelines import warehouse
from pipelines.errors import NightshelfError, NothingPublished
from pipelines.run import Run
from pipelines.search.answers import Engine
from pipelines.search.personal import Personal
from pipelines.search.rankings import Ranking

PART_BYTES = 6 << 20  # of one row: any warehouse takes 8 MiB of text


def write(path: Path, engine: Engine, ranking: Ranking, personal: Personal, run_id: str) -> None:
    """Write search_parts: the files of engine, ranking and re-ranking, cut into parts."""
    with TemporaryDirectory() as folder:
        engine.save(Path(folder))
        ranking.save(Path(folder))
        personal.save(Path(folder))
        rows = [(*part, run_id) for part in _parts(Path(folder))]
    pd.DataFrame(rows, columns=["name", "part", "content", "run_id"]).to_parquet(path, index=False)


def of(run: Run) -> tuple[Engine, Ranking, Personal]:
    """What answers queries, as a run's stage left it, published or not."""
    with duckdb.connect() as connection:
        connection.read_parquet(str(run.of("search", "search_parts.parquet"))).create_view("search_parts")
        return load(connection)


def load(release: duckdb.DuckDBPyConnection) -> tuple[Engine, Ranking, Personal]:
    """What answers queries, as the release holds it; raises NothingPublished for one that holds none."""
    known = "search_parts" in warehouse.names(release)
    if not known or not release.execute("select 1 from search_parts where name = 'lesser.npz'").fetchone():
        raise NothingPublished("The current release cannot answer new queries: it is older than that. Run a night.")
    with TemporaryDirectory() as folder:
        found = release.execute("select name, content from search_parts order by name, part")
        while row := found.fetchone():
            _append(Path(folder), row[0], base64.b64decode(row[1]))
        return Engine.load(Path(folder)), Ranking.load(Path(folder)), Personal.load(Path(folder))


def _parts(folder: Path) -> Iterator[tuple[str, int, str]]:
    """Of every file at any depth: its path within the folder, the part's number and its content as text."""
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):  # a pretrained encoder has a folder
        name = file.relative_to(folder).as_posix()
        with file.open("rb") as content:
            for number, some in enumerate(iter(partial(content.read, PART_BYTES), b""), start=1):
                yield name, number, base64.b64encode(some).decode("ascii")


def _append(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise NightshelfError(f"search_parts names {name!r}, which leads out of its folder. Do not trust this release.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(content)
