"""The ablation: what the ranking that was chosen would lose without each source."""

from collections.abc import Iterator, Sequence
from functools import partial

from pipelines.fuse.judging import Judged, lists_of, record
from pipelines.fuse.lessons import Lesson, Notes
from pipelines.fuse.rankings import PARTS, crossed, learn, taught
from pipelines.run import Run

ABLATED_USERS = 1000  # of each window; a ranking is taught anew for every part


def ablation(run: Run, samples: Sequence[Sequence[Lesson]], placement: str, name: str) -> list[dict]:
    """`<placement>/loss_without_<part>/ndcg_at_10`: what the chosen ranking loses when it must do without a source.

    Every ranking, the whole one too, is taught and judged on the same sample of users of each window.
    """
    placed, records = [[one.placed(placement) for one in sample] for sample in samples], []
    whole = _lists(run, placed, placement, name)
    for part in PARTS:
        without = _lists(run, placed, placement, name, part)
        if whole and without:
            metric = f"{placement}/loss_without_{part}/ndcg_at_10"
            records += record(metric, whole.ndcg - without.ndcg, run.settings.seed)
    return records


def _lists(
    run: Run, samples: Sequence[Sequence[Lesson]], placement: str, name: str, part: str | None = None
) -> Judged | None:
    """Lists of the last window's sample by a ranking that goes without a part; None where nothing teaches it."""

    def seen(sample: Sequence[Lesson]) -> Iterator[Lesson]:
        return (one.without(part, run.settings.fuse.candidates) if part else one for one in sample)

    def notes(sample: Sequence[Lesson]) -> Notes:
        return Notes(run.settings, placements=(placement,)).read(seen(sample))

    learns, (*earlier, last) = partial(learn, name, run=run), samples
    score = taught(learns, placement, [notes(one) for one in earlier]) or crossed(learns, placement, notes(last))
    return lists_of(seen(last), score) if score else None
