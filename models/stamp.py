"""Stamp: which ids the rows of an artefact belong to, and what its files were when it was whole."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from models.errors import Damaged, ForeignVocabulary
from models.vocabulary import Vocabulary

STAMP = "stamp.json"


def write(folder: Path, **hashes: str) -> None:
    """Write into the folder of a finished artefact the hashes of the ids by name (`users`, `items`), and its files'."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != STAMP)
    files = {path.relative_to(folder).as_posix(): _sha256(path) for path in paths}
    partial = folder.with_name(f"{folder.name}.{STAMP}.partial")
    partial.write_text(json.dumps({"ids": hashes, "files": files}), encoding="utf-8")
    os.replace(partial, folder / STAMP)


def ids(folder: Path) -> dict[str, str]:
    """The hashes of the ids by name, empty without a stamp."""
    return _read(folder)["ids"]


def check(folder: Path, **vocabularies: Vocabulary) -> None:
    """Hold the artefact's stamp against its files, and the vocabularies it is to be read with.

    Raises:
        ForeignVocabulary: one of them is not the one that was stamped.
        Damaged: a file is gone, or another than the one that was stamped.
    """
    stamped = _read(folder)
    for name, vocabulary in vocabularies.items():
        if stamped["ids"].get(name) != vocabulary.hash:
            raise ForeignVocabulary(
                f"{folder}: made for {name} that hash to {str(stamped['ids'].get(name))[:12]}, the {len(vocabulary)} "
                f"{name} at hand hash to {vocabulary.hash[:12]}; train that model again on these marts"
            )
    for name, expected in stamped["files"].items():
        if not (folder / name).is_file() or _sha256(folder / name) != expected:
            raise Damaged(
                f"{folder / name} is not the file that was written there. Remove {folder.parent}, and start the same "
                "run again: what stood there is made anew"
            )


def _read(folder: Path) -> Mapping[str, dict[str, str]]:
    path = folder / STAMP
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"ids": {}, "files": {}}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
