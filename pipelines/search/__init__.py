"""Search: answer the queries that people typed, from the items' words, the profile space and what people did next."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.rules.rule import BY_QUERY
from pipelines.rules.scope import Goods, allowed
from pipelines.run import Run, stage, write_json
from pipelines.search import beside, kept, personal, personal_proof, typed
from pipelines.search.answers import FEATURES, Engine, blocks
from pipelines.search.leanings import Leanings
from pipelines.search.lexical import Lexical
from pipelines.search.personal import Personal
from pipelines.search.proof import lessons, prove
from pipelines.search.rankings import Ranking, reasons

COLUMNS = ["query", "rank", "item_id", "score", "lexical_score", "semantic_score", "behaviour_score",
           "popularity_score", "reason", "run_id"]  # fmt: skip


@stage
def run(run: Run, folder: Path) -> None:
    """Write search_results, those of users, the tables beside them, what answers further queries, and the figures."""
    marts = Marts(run)
    queries = Vocabulary([*marts.queries()["query"], *run.settings.search.queries])
    lexical = Lexical.of(marts.catalogue, run.settings.search.language)
    ranking, weights, records = _adopted(run) if run.models_of else _learnt(run, marts, lexical, queries)
    own = Personal(Leanings.of(run, marts, "final"), weights)
    for one in (ranking, own):
        one.save(folder)
    log = typed.learn(run, marts, run.day)
    engine = _ruled(run, marts, Engine.of(run, marts, "final", log.lexicon, lexical, queries))
    kept.write(folder / "search_parts.parquet", engine, ranking, own, run.run_id)
    tables = [results(engine, ranking, block, run.run_id) for block in blocks(list(queries.ids))]
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    found.to_parquet(folder / "search_results.parquet", index=False)
    personal.write(run, marts, found, queries, own, folder / "user_search_results.parquet")
    beside.write(run, log, found, folder)
    write_json(folder / "metrics.json", records)


def _ruled(run: Run, marts: Marts, engine: Engine) -> Engine:
    """The engine that finds what the rules let stand, for all queries and for those that have rules of their own."""
    may_stand = partial(allowed, run.rules, Goods.of(marts), BY_QUERY)
    own = {rule.query: may_stand(query=rule.query) for rule in run.rules if rule.query is not None}
    return replace(engine.only(may_stand()), narrowed=own)


def _learnt(run: Run, marts: Marts, lexical: Lexical, queries: Vocabulary) -> tuple[Ranking, np.ndarray, list[dict]]:
    """The ranking that holds on the held-out days, how much a user's past weighs beside it, and the figures."""
    told = lessons(run, marts, lexical, queries)
    ranking, records = prove(run, told)
    weights, figures = personal_proof.prove(run, personal_proof.lessons(run, marts, told, ranking.name))
    return ranking, weights, records + figures


def _adopted(run: Run) -> tuple[Ranking, np.ndarray, list[dict]]:
    """Those of another run, with the figures that were made when they were learnt."""
    before = run.adopted("search")
    return Ranking.load(before), Personal.load(before).weights, json.loads((before / "metrics.json").read_text())


def results(engine: Engine, ranking: Ranking, queries: Sequence[str], run_id: str) -> pd.DataFrame:
    """Rows of search_results for some queries, in their order and by rank."""
    tables = [_found(one, ranking, some, run_id) for one, some in engine.parted(queries)]
    if len(tables) < 2:
        return tables[0] if tables else pd.DataFrame(columns=COLUMNS)
    told, place = pd.concat(tables), {query: number for number, query in enumerate(queries)}
    return told.iloc[np.argsort(told["query"].map(place), kind="stable")].reset_index(drop=True)


def _found(engine: Engine, ranking: Ranking, queries: Sequence[str], run_id: str) -> pd.DataFrame:
    slate = engine.answers(queries)
    found, score = slate.found, ranking.score(slate)
    ranks = found.ranks(score)
    kept = np.flatnonzero(ranks <= engine.count)
    kept = kept[np.lexsort((ranks[kept], found.rows[kept]))]
    asked = np.array(slate.queries, dtype=object)[found.rows[kept]]
    known = slate.features[kept, FEATURES.index("popularity")].astype(float)
    values = [
        asked,
        ranks[kept],
        engine.items.ids[found.items[kept]],
        score[kept],
        *found.scores[kept].T,
        known,
        reasons(slate)[kept],
    ]
    return pd.DataFrame(dict(zip(COLUMNS, [*values, run_id], strict=True)))
