"""Profiles: what cleaning counted of each arrival day, read from the run's part of the lake."""

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pipelines.run import Run


@dataclass(frozen=True)
class Profile:
    """One table's arrival day in numbers; `nulls` by column, `lags` by days late, `too_late` by event day."""

    table: str
    day: dt.date
    count_rows: int = 0
    accepted: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    nulls: Mapping[str, int] = field(default_factory=dict)
    count_items: int = 0
    event_types: Mapping[str, int] = field(default_factory=dict)
    lags: Mapping[str, int] = field(default_factory=dict)
    too_late: Mapping[str, int] = field(default_factory=dict)
    last_occurred_at: str | None = None

    @classmethod
    def read(cls, table: str, partition: Path) -> "Profile":
        told = json.loads((partition / "profile.json").read_text())
        day = dt.date.fromisoformat(partition.parent.name.removeprefix("arrival_date="))
        return cls(table, day, **{f.name: told[f.name] for f in fields(cls) if f.name in told})


def of(run: Run, table: str) -> list[Profile]:
    """The arrival days of one table that the run reads, oldest first."""
    partitions = json.loads(run.of("clean", "partitions.json").read_text())
    return [Profile.read(table, Path(folder)) for folder in partitions[table]]


def arrivals(events: Sequence[Profile]) -> list[dict[str, Any]]:
    """(arrival_date, event_date) with the rows that were let in, and those that came too late to be."""
    counted: dict[tuple[dt.date, dt.date], list[int]] = {}
    for profile in events:
        for lag, count in profile.lags.items():
            day = profile.day - dt.timedelta(days=int(lag))
            counted.setdefault((profile.day, day), [0, 0])[0] += count
        for event_day, count in profile.too_late.items():
            counted.setdefault((profile.day, dt.date.fromisoformat(event_day)), [0, 0])[1] += count
    return [
        {"arrival_date": arrived, "event_date": day, "count_rows": rows, "count_too_late": late}
        for (arrived, day), (rows, late) in sorted(counted.items())
    ]
