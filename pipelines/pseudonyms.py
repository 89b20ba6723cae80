"""Pseudonyms: users named by a keyed hash of their ids in all that is made of raw files, for shops that want it so."""

import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import BadSetting
from pipelines.run import write_json
from pipelines.settings import Clean, Settings

RECORD = "lake/pseudonyms.json"
SHORTEST = 32  # characters of a key: fewer can be guessed
FORM = re.compile("[0-9a-f]{64}")  # of a pseudonym
PROOF = "nightshelf"  # what is hashed to know a key again


@dataclass(frozen=True)
class Names:
    """How users are named: by HMAC-SHA256 (RFC 2104) of their ids, hexadecimal, or, without a key, by their ids."""

    key: bytes = field(default=b"", repr=False)
    is_merged: bool = False  # whether ids that differ only by case or inner space are one

    def of(self, user_id: str) -> str:
        """A user as the tables have it; of a pseudonym, itself."""
        folded = self._folded(user_id.strip())
        return folded if not self.key or FORM.fullmatch(folded) else self._hash(folded)

    def column(self, ids: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
        """(N,) names of trimmed ids; each different id is hashed once a block."""
        if not self.key:
            return ids
        plain = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
        told = plain.dictionary_encode()
        names = (self._hash(self._folded(user_id)) for user_id in told.dictionary.to_pylist())
        return pc.take(pa.array(names, pa.string()), told.indices)

    @property
    def proof(self) -> str:
        """By which the key is known again, and which tells nothing of it; empty without one."""
        return self._hash(PROOF) if self.key else ""

    def _folded(self, user_id: str) -> str:
        return re.sub(r"\s+", " ", user_id).lower() if self.is_merged else user_id

    def _hash(self, text: str) -> str:
        return hmac.digest(self.key, text.encode(), "sha256").hex()


def names(clean: Clean, environment: Mapping[str, str] = os.environ) -> Names:
    """Raises BadSetting when the key's variable is not set, or holds too short a key; the value is not told."""
    is_merged = clean.ids == "merge"
    if not clean.pseudonym_key:
        return Names(is_merged=is_merged)
    key = environment.get(clean.pseudonym_key, "")
    if len(key) < SHORTEST:
        what = f"holds {len(key)} characters" if key else "is not set"
        raise BadSetting(
            f"clean.pseudonym_key names the variable {clean.pseudonym_key}, which {what}. Set it to the key by which "
            f"users are named, {SHORTEST} characters or more, for every process of the night."
        )
    return Names(key.encode(), is_merged)


def of(clean: Clean, user_id: str) -> str:
    """A user as the tables have it, from the shop's id or from that; the key is needed for an id alone."""
    return user_id if clean.pseudonym_key and FORM.fullmatch(user_id) else names(clean).of(user_id)


def settled(told: Settings) -> Settings:
    """The settings as a run keeps them: under a key, what `bots.allow` names goes by its hash, as users do."""
    if not told.clean.pseudonym_key:
        return told
    allowed = dict.fromkeys(of(told.clean, visitor) for visitor in told.bots.allow)
    return told.model_copy(update={"bots": told.bots.model_copy(update={"allow": list(allowed)})})


def require(home: Path, clean: Clean) -> Names:
    """The names; raises BadSetting also when the key is not the one of before, so that every user would be another."""
    told, record = names(clean), home / RECORD
    before = json.loads(record.read_text())["proof"] if record.exists() else told.proof
    if told.key and before != told.proof:
        raise BadSetting(
            f"{clean.pseudonym_key} holds another key than before: every user would be a stranger to the models, and "
            f"to whoever knows the pseudonyms. Set it back; if the change is meant, delete {record}: all days of which "
            "there are raw files are cleaned anew."
        )
    return told


def keep(home: Path, clean: Clean) -> None:
    """Remember the key's proof, where there is a key and none is remembered."""
    told = require(home, clean)
    if told.key and not (home / RECORD).exists():
        (home / RECORD).parent.mkdir(parents=True, exist_ok=True)
        write_json(home / RECORD, {"proof": told.proof, "variable": clean.pseudonym_key})
