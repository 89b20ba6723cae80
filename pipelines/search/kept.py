"""Kept: all that answers queries, as rows of the release, so that a release alone answers what nobody has typed yet."""

import base64
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pandas as pd

from pipelines import warehouse
from pipelines.errors import NothingPublished
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
        rows = [(*part, run_id) for file in sorted(Path(folder).iterdir()) for part in _parts(file)]
    pd.DataFrame(rows, columns=["name", "part", "content", "run_id"]).to_parquet(path, index=False)


def load(release: duckdb.DuckDBPyConnection) -> tuple[Engine, Ranking, Personal]:
    """What answers queries, as the release holds it; raises NothingPublished for one that holds none."""
    known = "search_parts" in warehouse.names(release)
    if not known or not release.execute("select 1 from search_parts where name = 'arranging.npz'").fetchone():
        raise NothingPublished("The current release cannot answer new queries: it is older than that. Run a night.")
    with TemporaryDirectory() as folder:
        found = release.execute("select name, content from search_parts order by name, part")
        while row := found.fetchone():
            with (Path(folder) / Path(row[0]).name).open("ab") as file:
                file.write(base64.b64decode(row[1]))
        return Engine.load(Path(folder)), Ranking.load(Path(folder)), Personal.load(Path(folder))


def _parts(file: Path) -> Iterator[tuple[str, int, str]]:
    with file.open("rb") as content:
        number = 0
        while some := content.read(PART_BYTES):
            number += 1
            yield file.name, number, base64.b64encode(some).decode("ascii")
