"""Replenishments: what each user buys again and again, and when it, or a purchase at all, is due."""

import numpy as np
import pandas as pd

from models import metrics
from pipelines.beside import rhythm
from pipelines.marts import Marts, values_at
from pipelines.run import Run


def replenishments(run: Run, marts: Marts) -> pd.DataFrame:
    """A row per user and item bought on two days or more, by people."""
    pairs = rhythm.of_pairs(_purchases_of_people(run, marts))
    return pd.DataFrame(
        {
            "user_id": marts.users.ids[pairs["user"]],
            "item_id": marts.items.ids[pairs["item"]],
            **_told(run, pairs),
            "run_id": run.run_id,
        }
    )


def user_rhythms(run: Run, marts: Marts) -> pd.DataFrame:
    """A row per person whom the shop knows, also who never bought."""
    people = marts.people(run.day)
    known = marts.frame("select user_id, country, has_consent, last_contact_date from users order by user_id")[people]
    told = rhythm.of_users(_purchases_of_people(run, marts)).set_index("user").reindex(np.flatnonzero(people))
    dates = _told(run, told.fillna({"count_days": 0}))
    return known.assign(**{name: values.to_numpy() for name, values in dates.items()}, run_id=run.run_id)


def proof(run: Run, marts: Marts) -> list[dict]:
    """`replenishments/<status>/bought_again`: share of a user's pairs that were bought in the held-out days, by what
    their rhythm foretold on the day before."""
    cut = run.holdout_cut
    pairs = rhythm.of_pairs(marts.purchases(cut))
    pairs = pairs[marts.people(run.day)[pairs["user"]]]
    again = values_at(marts.bought(run.day, after=cut), pairs["user"].to_numpy(), pairs["item"].to_numpy()) > 0
    told = pairs.assign(again=again, status=rhythm.status(pairs, (run.day - cut).days))
    records = []
    for status, rows in told.groupby("status"):
        mean, low, high = metrics.bootstrap_interval(rows.groupby("user")["again"].mean().to_numpy(), run.settings.seed)
        records.append({"metric": f"replenishments/{status}/bought_again", "value": mean, "low": low, "high": high})
    return records


def _purchases_of_people(run: Run, marts: Marts) -> pd.DataFrame:
    bought = marts.purchases(run.day)
    return bought[marts.people(run.day)[bought["user"]]]


def _told(run: Run, found: pd.DataFrame) -> dict[str, pd.Series]:
    """What both tables tell of a rhythm."""
    last = pd.Timestamp(run.day) - pd.to_timedelta(found["since"], unit="D")
    return {
        "count_purchase_days": found["count_days"].astype("int64"),
        "last_purchase_date": last.dt.date,
        "usual_pause_days": found["usual"].astype(float),
        "due_date": (last + pd.to_timedelta(found["usual"].round(), unit="D")).dt.date,
        "status": pd.Series(rhythm.status(found, run.settings.shelve.due_days), index=found.index),
    }
