"""The forgotten: users who are kept out of whatever is delivered later, known by a keyed hash alone."""

import hashlib
import json
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.run import write_json

RULE = "forgotten"  # by which their rows are rejected


@dataclass(frozen=True)
class Forgotten:
    """SHA-256 of key and id, hexadecimal, of each forgotten user. The key lies beside the list, for its owner alone."""

    key: str
    hashes: frozenset[str]

    def hash(self, user_id: str) -> str:
        return hashlib.sha256((self.key + user_id).encode()).hexdigest()

    def __contains__(self, user_id: str) -> bool:
        return self.hash(user_id) in self.hashes


def load(home: Path) -> Forgotten:
    """Who is forgotten; nobody, under an empty key, before the first."""
    folder = _folder(home)
    if not (folder / "users.json").exists():
        return Forgotten("", frozenset())
    return Forgotten((folder / "key").read_text(), frozenset(json.loads((folder / "users.json").read_text())))


def add(home: Path, users: Iterable[str]) -> int:
    """Keep users out from now on; returns how many were not yet."""
    folder = _folder(home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / "key").exists():
        partial = folder / "key.partial"
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
        os.replace(partial, folder / "key")
    before = load(home)
    told = Forgotten((folder / "key").read_text(), before.hashes)
    hashes = told.hashes | {told.hash(user) for user in users}
    write_json(folder / "users.json", sorted(hashes))
    return len(hashes) - len(before.hashes)


def begun(home: Path, users: Iterable[str]) -> Counter[str] | None:
    """What a forgetting of these users counted that has not come to its proof; None where there was no such."""
    path, told = _folder(home) / "begun.json", load(home)
    record = json.loads(path.read_text()) if path.exists() else {}
    return Counter(record["counts"]) if record.get("users") == sorted(map(told.hash, users)) else None


def begin(home: Path, users: Iterable[str], counts: Mapping[str, int]) -> None:
    """Keep what is counted so far: rows that are gone cannot be counted again, and the proof is written at the end."""
    write_json(_folder(home) / "begun.json", {"users": sorted(map(load(home).hash, users)), "counts": counts})


def record(home: Path, told: dict[str, Any]) -> None:
    """Add the proof of a forgetting, which names nobody, to `forgotten/proofs.json`."""
    write_json(_folder(home) / "proofs.json", [*proofs(home), told])
    (_folder(home) / "begun.json").unlink(missing_ok=True)


def proofs(home: Path) -> list[dict[str, Any]]:
    """What was forgotten, oldest first: when, by whom, why, and how much of it lay where."""
    path = _folder(home) / "proofs.json"
    return json.loads(path.read_text()) if path.exists() else []


def _folder(home: Path) -> Path:
    return home / "forgotten"
