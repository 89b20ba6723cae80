"""Search: answer the queries that people typed, from the items' words, the profile space and what people did next."""

import json
from pathlib import Path

import numpy as np

from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.rules.scope import Goods
from pipelines.run import Run, stage, write_json
from pipelines.search import beside, kept, leanings, personal, personal_proof, typed
from pipelines.search.answers import Engine
from pipelines.search.leanings import Leanings
from pipelines.search.lexical import Lexical
from pipelines.search.personal import Personal
from pipelines.search.proof import lessons, prove
from pipelines.search.rankings import Ranking
from pipelines.search.ruled import Ruled


@stage
def run(run: Run, folder: Path) -> None:
    """Write search_results, those of users, the tables beside them, what answers further queries, and the figures."""
    marts = Marts(run)
    queries = typed.answered(run, marts)
    lexical = Lexical.of(marts.catalogue, run.settings.search.language)
    written = leanings.written(marts.catalogue, lexical)
    ranking, weights, records = _adopted(run) if run.ranked_by else _learnt(run, marts, lexical, queries, written)
    own = Personal(Leanings.of(run, marts, "final", written), weights)
    for one in (ranking, own):
        one.save(folder)
    log = typed.learn(run, marts, run.day)
    engine = Engine.of(run, marts, "final", log.lexicon, lexical, queries)
    ruled = Ruled(run.rules, Goods.of(marts), engine)
    kept.write(folder / "search_parts.parquet", ruled.engine, ranking, own, run.run_id)
    told = ruled.answered(ranking, list(queries.ids), run.run_id)
    told.rows.to_parquet(folder / "search_results.parquet", index=False)
    ruled.effects(told, run.run_id).to_parquet(folder / "search_effects.parquet", index=False)
    held = ruled.engine.arranging.held
    personal.write(run, marts, told.rows, queries, own, held, folder / "user_search_results.parquet")
    beside.write(run, log, told.rows, folder)
    write_json(folder / "metrics.json", records)


def _learnt(
    run: Run, marts: Marts, lexical: Lexical, queries: Vocabulary, written: np.ndarray
) -> tuple[Ranking, np.ndarray, list[dict]]:
    """The ranking that holds on the held-out days, how much a user's past weighs beside it, and the figures."""
    told = lessons(run, marts, lexical, queries)
    ranking, records = prove(run, told)
    weights, figures = personal_proof.prove(run, personal_proof.lessons(run, marts, told, ranking.name, written))
    return ranking, weights, records + figures


def _adopted(run: Run) -> tuple[Ranking, np.ndarray, list[dict]]:
    """Those of another run, with the figures that were made when they were learnt."""
    before = run.adopted("search")
    return Ranking.load(before), Personal.load(before).weights, json.loads((before / "metrics.json").read_text())
