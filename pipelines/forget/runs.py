"""Runs without some users: their rows leave tables, arrays and examples, and what is left still fits together."""

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models import stamp
from models.vocabulary import Vocabulary
from pipelines.forget.delivered import mentions
from pipelines.run import write_json, write_text
from pipelines.warehouse import erase as erasing
from pipelines.warehouse.manifest import MANIFEST, RELEASE, VERDICT, sha256

ARRAYS = ("user_factors.npy", "user_vectors.npy", "sequence_users.npy")  # a row for each user of the marts
GONE = "(a line about somebody who is forgotten)"


def erase(home: Path, users: Collection[str]) -> int:
    """Rows that were taken out of the runs that are kept; an unfinished stage goes altogether."""
    count = 0
    for folder in sorted(path for path in (home / "runs").glob("*/") if (path / "run.json").exists()):
        for partial in folder.glob("*.partial/"):
            shutil.rmtree(partial)
        count += _erase(folder, users)
    shutil.rmtree(home / "spark", ignore_errors=True)
    return count


def erase_logs(home: Path, users: Collection[str]) -> int:
    """Lines of logs that named the users."""
    count, pattern = 0, mentions(users)
    for path in sorted(home.rglob("*.log")):
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
        named = [bool(pattern.search(line)) for line in lines]
        if any(named):
            kept = [GONE if is_named else line for line, is_named in zip(lines, named, strict=True)]
            write_text(path, "\n".join(kept))
        count += sum(named)
    return count


def _erase(folder: Path, users: Collection[str]) -> int:
    """The marts last: as long as they know the users, what lies by position can still be found."""
    marts, pattern = folder / "build" / "marts.duckdb", mentions(users).pattern
    count = sum(_erase_parquet(path, users) for path in sorted(folder.glob("*/*.parquet")))
    if marts.exists():
        count += _erase_positions(folder, _users(marts), users)
        count += erasing.database(marts, users, pattern)
    if (folder / "validate" / RELEASE).exists():
        count += _erase_release(folder / "validate", users, pattern)
    return count + _erase_examples(folder, users)


def _erase_parquet(path: Path, users: Collection[str]) -> int:
    table = pq.read_table(path)
    kept = np.ones(len(table), dtype=bool)
    for name in set(erasing.OWNERS) & set(table.column_names):
        kept &= ~np.asarray(pc.is_in(table[name].cast(pa.string()), pa.array(sorted(users))))
    return _keep(path, table, kept)


def _keep(path: Path, table: pa.Table, kept: np.ndarray) -> int:
    if not kept.all():
        partial = path.with_name(f"{path.name}.partial")
        pq.write_table(table.filter(pa.array(kept)), partial, compression="zstd")
        os.replace(partial, path)
    return int((~kept).sum())


def _users(marts: Path) -> list[str]:
    with duckdb.connect(str(marts), read_only=True) as connection:
        return [user for (user,) in connection.execute("select user_id from users order by user_id").fetchall()]


def _erase_positions(folder: Path, known: list[str], users: Collection[str]) -> int:
    """Rows of candidates and arrays, in which a user is a position: those after it move up."""
    before, after = Vocabulary(known), Vocabulary(set(known) - set(users))
    if len(before) == len(after):
        return 0
    count = 0
    for artefact in sorted(path.parent for path in folder.glob(f"train_*/*/{stamp.STAMP}")):
        told = stamp.ids(artefact)
        if told.get("users") == before.hash:
            count += sum(_erase_rows(artefact / name, before, after) for name in ARRAYS)
            stamp.write(artefact, **{**told, "users": after.hash})
    candidates = (folder / "fuse" / name for name in ("candidates.parquet", "held_out_candidates.parquet"))
    return count + sum(_erase_candidates(path, before, after) for path in candidates if path.exists())


def _erase_rows(path: Path, before: Vocabulary, after: Vocabulary) -> int:
    """Nothing where it was done before: then the array is as long as the users that stay."""
    array = np.load(path) if path.exists() else np.empty(0)
    if len(array) != len(before):
        return 0
    partial = path.with_name(f"{path.name}.partial")
    with partial.open("wb") as file:
        np.save(file, array[before.positions(after.ids)])
    os.replace(partial, path)
    return len(before) - len(after)


def _erase_candidates(path: Path, before: Vocabulary, after: Vocabulary) -> int:
    table, schema = pq.read_table(path), pq.read_schema(path)
    stays = after.positions(before.ids)
    if (schema.metadata or {}).get(b"users") == after.hash.encode():
        return 0
    users = stays[table["user"].to_numpy()]
    place = table.column_names.index("user")
    moved = table.set_column(place, schema.field("user"), pa.array(users, pa.int32()))
    marked = moved.replace_schema_metadata({b"users": after.hash.encode()})
    partial = path.with_name(f"{path.name}.partial")
    pq.write_table(marked.filter(pa.array(users >= 0)), partial, compression="zstd")
    os.replace(partial, path)
    return int((users < 0).sum())


def _erase_release(folder: Path, users: Collection[str], pattern: str) -> int:
    """The release that was judged, with its manifest and the verdict bound to what is left of it.

    What is not as the gate left it, perhaps since an earlier attempt died here, is removed: the gate judges it anew.
    """
    manifest, verdict = (json.loads((folder / name).read_text()) for name in (MANIFEST, VERDICT))
    if [verdict["manifest"], manifest["sha256"]] != [sha256(folder / name) for name in (MANIFEST, RELEASE)]:
        shutil.rmtree(folder)
        return 0
    count = erasing.database(folder / RELEASE, users, pattern)
    if count:
        found = sha256(folder / RELEASE)
        write_json(folder / MANIFEST, erasing.retold(manifest, folder / RELEASE, found, count))
        write_json(folder / VERDICT, {**verdict, "manifest": sha256(folder / MANIFEST)})
    return count


def _erase_examples(folder: Path, users: Collection[str]) -> int:
    """Rows that the books quote; the report, which quotes them too, is taken away, and can be written again."""
    path, pattern, count = folder / "clean" / "books.json", mentions(users), 0
    if path.exists():
        books = json.loads(path.read_text())
        named = [record for record in books if pattern.search(record["example"] or "")]
        for record in named:
            record["example"] = None
        if named:
            write_json(path, books)
        count = len(named)
    report = folder / "report" / "report.html"
    if report.exists() and pattern.search(report.read_text()):
        shutil.rmtree(report.parent)
        count += 1
    return count
