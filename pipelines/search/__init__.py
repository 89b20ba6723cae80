"""Search: answer the queries that people typed, from the items' words, the profile space and what people did next."""

from pathlib import Path

import numpy as np
import pandas as pd

from models.fusion import LinearBlend
from models.vocabulary import Vocabulary
from pipelines.marts import Marts
from pipelines.run import Run, stage, write_json
from pipelines.search.answers import QUERIES_PER_BLOCK, Index
from pipelines.search.lexical import Lexical
from pipelines.search.proof import learn

COLUMNS = ["query", "rank", "item_id", "score", "lexical_score", "semantic_score", "behaviour_score", "run_id"]


@stage
def run(run: Run, folder: Path) -> None:
    """Write search_results and the figures on held-out clicks."""
    marts = Marts(run)
    queries = Vocabulary(marts.queries()["query"])
    lexical = Lexical(marts)
    blend, records = learn(run, marts, queries, lexical)
    index = Index(run, marts, "final", queries, lexical)
    blocks = [
        np.arange(start, min(start + QUERIES_PER_BLOCK, len(queries)))
        for start in range(0, len(queries), QUERIES_PER_BLOCK)
    ]
    tables = [_published(run, marts, index, rows, blend) for rows in blocks]
    results = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=COLUMNS)
    results.to_parquet(folder / "search_results.parquet", index=False)
    write_json(folder / "metrics.json", records)


def _published(run: Run, marts: Marts, index: Index, rows: np.ndarray, blend: LinearBlend | None) -> pd.DataFrame:
    answers = index.answers(rows)
    score = blend.score(answers.scaled) if blend else answers.reciprocal_ranks.sum(axis=1)
    ranks = answers.ranks(score)
    kept = np.flatnonzero(ranks <= run.settings.search.results)
    kept = kept[np.lexsort((ranks[kept], answers.rows[kept]))]
    values = [
        index.queries.ids[answers.row_owners[kept]],
        ranks[kept],
        marts.items.ids[answers.items[kept]],
        score[kept],
    ]
    return pd.DataFrame(dict(zip(COLUMNS, [*values, *answers.scores[kept].T, run.run_id], strict=True)))
