"""Search: answer the queries that people typed, from the items' words, the profile space and what people did next."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.reasons import BY_SHOP
from pipelines.rules.rule import BARS, BY_QUERY
from pipelines.rules.scope import Goods, allowed
from pipelines.run import Run, stage, write_json
from pipelines.search import beside, kept, personal, personal_proof, typed
from pipelines.search.answers import SOURCES, Engine, blocks
from pipelines.search.arranging import Arranging
from pipelines.search.leanings import Leanings
from pipelines.search.lexical import Lexical
from pipelines.search.personal import Personal
from pipelines.search.proof import lessons, prove
from pipelines.search.rankings import Ranking, reasons

COLUMNS = ["query", "rank", "item_id", "score", "lexical_score", "semantic_score", "behaviour_score",
           "popularity_score", "reason", "rule_id", "run_id"]  # fmt: skip


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
    capped: Counter = Counter()
    tables = [results(engine, ranking, block, run.run_id, capped) for block in blocks(list(queries.ids))]
    found = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    found.to_parquet(folder / "search_results.parquet", index=False)
    _effects(engine.arranging, found, capped, run.run_id).to_parquet(folder / "search_effects.parquet", index=False)
    held = engine.arranging.held
    personal.write(run, marts, found, queries, own, held, folder / "user_search_results.parquet")
    beside.write(run, log, found, folder)
    write_json(folder / "metrics.json", records)


def _ruled(run: Run, marts: Marts, engine: Engine) -> Engine:
    """The engine that finds what the rules let stand, for all queries and for those that have rules of their own."""
    may_stand = partial(allowed, run.rules, Goods.of(marts), BY_QUERY)
    barred = {rule.query for rule in run.rules if rule.query is not None and rule.action in BARS}
    own = {query: may_stand(query=query) for query in sorted(barred)}
    arranging = Arranging.of(run.rules, Goods.of(marts))
    return replace(engine.only(may_stand()), narrowed=own, arranging=arranging)


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


def results(
    engine: Engine, ranking: Ranking, queries: Sequence[str], run_id: str, capped: Counter | None = None
) -> pd.DataFrame:
    """Rows of search_results for some queries, in their order and by rank; by rule, `capped` counts the candidates that
    caps take away."""
    tables = [_found(one, ranking, some, run_id, Counter() if capped is None else capped)
              for one, some in engine.parted(queries)]  # fmt: skip
    if len(tables) < 2:
        return tables[0] if tables else pd.DataFrame(columns=COLUMNS)
    told, place = pd.concat(tables), {query: number for number, query in enumerate(queries)}
    return told.iloc[np.argsort(told["query"].map(place), kind="stable")].reset_index(drop=True)


def _found(engine: Engine, ranking: Ranking, queries: Sequence[str], run_id: str, capped: Counter) -> pd.DataFrame:
    """What only a rule brings to an answer has no score of any source, and one that keeps order."""
    slate = engine.answers(queries)
    score = ranking.score(slate)
    told = engine.arranging.listed(slate.queries, slate.found, score, engine.count, engine.sold)
    capped.update(engine.arranging.names(told.capped))
    scores = np.concatenate([slate.found.scores, np.zeros((1, len(SOURCES)))])
    values = [
        np.array(slate.queries, dtype=object)[told.lists],
        told.ranks,
        engine.items.ids[told.items],
        np.where(told.rows < 0, -1.0 - told.ranks, np.append(score, 0.0)[told.rows]),
        *scores[told.rows].T,  # -1, which is no candidate, finds the zeros at the end
        engine.shop.popularity[told.items].astype(float),
        np.append(reasons(slate).astype(object), BY_SHOP)[told.rows],
        engine.arranging.names(told.rules),
    ]
    return pd.DataFrame(dict(zip(COLUMNS, [*values, run_id], strict=True)))


def _effects(arranging: Arranging, found: pd.DataFrame, capped: Counter, run_id: str) -> pd.DataFrame:
    """Rows of rule_effects: what rules took out of answers and put on their place there."""
    moved = found["rule_id"].value_counts()
    rows = [(rule.rule_id, capped[rule.rule_id], moved.get(rule.rule_id, 0)) for rule in arranging.rules]
    told = pd.DataFrame(rows, columns=["rule", "count_rows", "count_moved"])
    return told.assign(placement=BY_QUERY, count_users=0, run_id=run_id)
