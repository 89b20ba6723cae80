"""What each stage needs by how much it works on: the table that foretells a shop's first night.

Seconds are fitted to what `benchmarks/night.py` printed on two cores (benchmarks/README.md): wall seconds of UCI Online
Retail, CPU seconds of the generated shop; those of cleaning to `benchmarks/cleaning.py` too. What a further thread
brings is not known, and not counted on. Bytes are those of the largest arrays and files. What is told from this table
is MARGIN times what it says.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pipelines.plan.size import Size
from pipelines.settings import Settings

MARGIN = 1.5
MIB = 1 << 20
PYTHON = 1200 * MIB  # resident before rows count: libraries, and what a night holds of the smallest shop
LEARNING = 400 * MIB  # of each process that trains the encoder with others (benchmarks/processes.py)
BEYOND_HEAP = 900 * MIB  # of Java beside its heap, and of Python beside Java: 2.9 GiB at a heap of 2 (cleaning.py)
DAY_ROWS = 5_000  # a table's day costs cleaning as much as so many rows: its files are opened, its books are closed
QUERIES_PER_EVENT = 0.02  # distinct ones
BUYERS = 0.5  # share of users who buy within one window
TAKEN = 10  # candidates of a user that were bought, and teach trees beside `fuse.negatives`
UNION = 2.8  # candidates of a user over what one source may propose
FILLED = 0.6  # candidates that a user has over those that could be kept
ROW_OF_ACTS = 60  # bytes of a row of what people did, with the matrix that it becomes: 48 to 58 (benchmarks/acts.py)
ROW_KNOWN = 180  # and as features of the ranker: 175 (the same)
SHOWN = 1024  # users whose candidates are sought and judged at once
ROW_SHOWN = 850  # bytes of a candidate of theirs, with features and copies
ROW_LEARNT = 800  # of a candidate that teaches trees, and LightGBM's own for two placements (benchmarks/lessons.py)
WEIGHED_USERS, ROW_WEIGHED = 5000, 60  # of a window teach the blend at most; bytes of each of their candidates
ABLATED_USERS, ROW_ABLATED = 1000, 300  # of a window are kept for the ablation at most, and the same of theirs
READ_ONLY = 0.1  # reading a user's history by both networks over learning from it once: less than a tenth
PLACED = 4096  # users whose lists are built at once
PART = 1 << 19  # rows of a published table that the gate has as a frame at once
MLLIB = 22  # CPU seconds of a sweep in Spark over those of ours (benchmarks/als.py)
NEIGHBOURLY = 400  # sparse neighbours: a pair of items costs as much as so many steps of EASE
BESIDE_TREES = 250  # what else is done with a candidate costs as much as so many trees (benchmarks/reranking.py)


@dataclass(frozen=True)
class Need:
    """One stage's: `fixed_seconds` and `seconds` per unit of `work`; bytes of its arrays and on disk."""

    fixed_seconds: float
    seconds: float
    work: Callable[[Size, Settings], float]
    arrays: Callable[[Size, Settings], float]
    disk: Callable[[Size, Settings], float]


def resident(stage: str, told: Settings) -> float:
    """Bytes that a stage holds whatever the shop."""
    java = told.clean.memory_mb * MIB + BEYOND_HEAP if uses_spark(stage, told) else 0
    if stage == "clean":
        return java
    started = told.profile.processes if stage == "train_profile" and told.profile.processes > 1 else 0
    return PYTHON + started * LEARNING + java


def uses_spark(stage: str, told: Settings) -> bool:
    """Whether Java works beside a stage's own process."""
    launcher = told.profile.launcher if told.profile.processes > 1 else None
    engines = {"train_als": told.als.engine, "train_profile": launcher}
    engines |= {"fuse": told.fuse.engine, "shelve": told.shelve.engine}
    return ({"clean": "spark", "publish": told.warehouse.engine} | engines).get(stage) == "spark"


def nothing(size: Size, told: Settings) -> float:
    return 0.0


def trained(told: Settings, carries_proof: bool) -> Settings:
    """The settings as a night's work tells them: one that carries a proof trains, and learns from, no window."""
    if not carries_proof:
        return told
    return told.model_copy(update={"holdout": told.holdout.model_copy(update={"windows": 0})})


def cuts(told: Settings) -> int:
    """Trainings of a night."""
    return told.holdout.windows + 1


def queries(size: Size, told: Settings) -> float:
    return min(told.search.max_queries, QUERIES_PER_EVENT * size.count_events)


def shelf_rows(size: Size, told: Settings) -> float:
    return size.count_users * sum(map(told.length_of, told.shelves))


def candidate_rows(size: Size, told: Settings) -> float:
    """Of `user_candidates`."""
    return size.count_users * FILLED * told.fuse.depth * len(told.shelves)


def lesson_users(size: Size, told: Settings) -> float:
    """Of one window."""
    return min(BUYERS * size.count_users, told.fuse.learn_users)


def lesson_rows(size: Size, told: Settings) -> float:
    """Candidates of those who teach the ranker, of all windows."""
    return told.holdout.windows * lesson_users(size, told) * UNION * told.fuse.candidates


def cleaning_work(size: Size, told: Settings) -> float:
    return size.pending_rows + DAY_ROWS * size.pending_days


def cleaning_disk(size: Size, told: Settings) -> float:
    """Rows as they landed and as they are kept, and a table's day in files of its own."""
    return 200 * size.pending_rows + 32_768 * size.pending_days


def scratch(size: Size, told: Settings) -> float:
    """What Spark shuffles of the rows that it cleans, compressed."""
    return 100 * size.pending_rows


def als_work(size: Size, told: Settings) -> float:
    slower = MLLIB if told.als.engine == "spark" else 1
    return cuts(told) * told.als.epochs * told.als.factors * size.count_events * slower


def als_arrays(size: Size, told: Settings) -> float:
    """Rows of acts; the matrix (U, I) in four copies of 12 bytes a cell; float32 factors of every cut."""
    return (ROW_OF_ACTS + 4 * 12) * size.count_events + als_disk(size, told)


def als_disk(size: Size, told: Settings) -> float:
    """(U, F) and (I, F) float32, for every cut."""
    return cuts(told) * (size.count_users + size.count_items) * told.als.factors * 4


def is_dense(size: Size, told: Settings) -> bool:
    return size.count_items <= told.neighbours.largest_dense


def neighbours_work(size: Size, told: Settings) -> float:
    """EASE inverts (I, I); sparse neighbours sort what is stored of it."""
    return cuts(told) * size.count_items**2 * (size.count_items if is_dense(size, told) else NEIGHBOURLY)


def neighbours_arrays(size: Size, told: Settings) -> float:
    """Of EASE (I, I) as a sparse product of 12 bytes a cell, in float64 and in float32; else a block of 1024 items
    against all, a third of its cells stored at 60 bytes, and (I, kept) twice at 12. Rows of acts in both cases."""
    items, rows = size.count_items, (ROW_OF_ACTS + 4 * 12) * size.count_events
    return rows + (24 * items**2 if is_dense(size, told) else items * (1024 * 20 + 24 * told.neighbours.kept))


def neighbours_disk(size: Size, told: Settings) -> float:
    items = size.count_items
    return cuts(told) * (4 * items**2 if is_dense(size, told) else 12 * items * told.neighbours.kept)


def profile_work(size: Size, told: Settings) -> float:
    """Examples that the networks learn from, and users who are read: everybody once, and before the held-out days those
    who teach the rankings."""
    profile = told.profile
    histories = profile.sequence_epochs * min(size.count_users, profile.sequence_users)
    read = size.count_users + told.holdout.windows * lesson_users(size, told)
    return cuts(told) * (profile.steps * profile.batch_size + histories) + READ_ONLY * read


def profile_arrays(size: Size, told: Settings) -> float:
    """Histories (U, H) of 30 bytes a place, with what is withheld of them and the attention; examples (N, H) of 17, one
    event in five being a first purchase, but no more than are drawn; rows of acts; vectors."""
    profile = told.profile
    examples = min(size.count_events / 5, profile.history_steps * profile.batch_size)
    places = (30 * size.count_users + 17 * examples) * profile.history_length
    return places + ROW_OF_ACTS * size.count_events + profile_disk(size, told)


def profile_disk(size: Size, told: Settings) -> float:
    """For every cut the vectors (U + I, E), twice (U + I, S) of the sequence and its network, and the encoder."""
    width = told.profile.embedding_size + 2 * told.profile.sequence_size
    return cuts(told) * ((size.count_users + size.count_items) * width * 4 + 2 * MIB)


def fuse_work(size: Size, told: Settings) -> float:
    """Candidates that are learnt from and those that are served, by trees and what they cost beside these."""
    served = size.count_users * UNION * told.fuse.candidates
    return (BESIDE_TREES + told.fuse.trees) * (lesson_rows(size, told) + served)


def fuse_arrays(size: Size, told: Settings) -> float:
    """What teaches the rankings; of a block of users 60 float32 features of each candidate, scores and copies; rows of
    acts, also as two matrices (U, I); the sources of one cut."""
    sources = als_disk(size, told) / cuts(told) + profile_disk(size, told) / cuts(told)
    rows = (ROW_KNOWN + 2 * 12) * size.count_events
    block = ROW_SHOWN * min(size.count_users, SHOWN) * UNION * told.fuse.candidates
    return lesson_arrays(size, told) + block + rows + sources + told.fuse.memory_mb * MIB


def lesson_arrays(size: Size, told: Settings) -> float:
    """Of each user of a window the rows that teach trees; of some of them all rows for the blend, and of fewer all rows
    with features for the ablation."""
    users, shown = lesson_users(size, told), UNION * told.fuse.candidates
    weighed, ablated = min(users, WEIGHED_USERS) * shown, min(users, ABLATED_USERS) * shown * told.fuse.ablation
    rows = ROW_LEARNT * users * min(told.fuse.negatives + TAKEN, shown) + ROW_WEIGHED * weighed + ROW_ABLATED * ablated
    return told.holdout.windows * rows


def fuse_disk(size: Size, told: Settings) -> float:
    return 27 * candidate_rows(size, told)


def shelve_arrays(size: Size, told: Settings) -> float:
    """Rows of acts, also as three matrices (U, I); histories (U, H) of 13 bytes a place and the attention of two
    networks; of one block of users the candidates and the finished lists as frames with ids and reasons."""
    rows, places = (ROW_OF_ACTS + 3 * 12) * size.count_events, size.count_users * told.profile.history_length
    placed = min(PLACED / max(size.count_users, 1), 1.0)
    block = placed * (250 * candidate_rows(size, told) + 600 * shelf_rows(size, told))
    return rows + 21 * places + block


def shelve_disk(size: Size, told: Settings) -> float:
    return 27 * candidate_rows(size, told) + 75 * shelf_rows(size, told)


def answers(size: Size, told: Settings) -> float:
    """Rows of `search_results` and of `user_search_results`."""
    own = min(told.search.max_user_queries, size.count_events / 7) * told.search.user_results
    return queries(size, told) * told.search.results + own


def validate_arrays(size: Size, told: Settings) -> float:
    """A part of the finished lists or of the answers as a frame, text in seven columns, and Great Expectations beside
    it; ids of users; tables of queries as frames; what DuckDB sorts of the largest table."""
    rows = max(shelf_rows(size, told), queries(size, told) * told.search.results)
    frames = 800 * min(rows, PART) + 100 * size.count_users + 1000 * queries(size, told)
    return frames + database(told, 300 * candidate_rows(size, told))


def validate_disk(size: Size, told: Settings) -> float:
    """The release."""
    return 12 * MIB + 30 * (candidate_rows(size, told) + shelf_rows(size, told) + answers(size, told))


def publish_disk(size: Size, told: Settings) -> float:
    """Files are linked to; Spark's tables are the release once more."""
    return validate_disk(size, told) if told.warehouse.engine == "spark" else 0.0


def database(told: Settings, most: float) -> float:
    """Bytes that DuckDB holds of so many."""
    return min(most, told.machine.database_mb * MIB)


def build_arrays(size: Size, told: Settings) -> float:
    """What DuckDB holds of 900 bytes an event."""
    return database(told, 900 * size.count_events)


def build_disk(size: Size, told: Settings) -> float:
    return 12 * MIB + 170 * size.count_events


NEEDS = {
    "clean": Need(30, 6e-6, cleaning_work, nothing, cleaning_disk),
    "admit": Need(3, 0, nothing, nothing, nothing),
    "build": Need(10, 3.4e-5, lambda size, told: size.count_events, build_arrays, build_disk),
    "train_als": Need(0.3, 3.2e-9, als_work, als_arrays, als_disk),
    "train_neighbours": Need(0.2, 2.2e-11, neighbours_work, neighbours_arrays, neighbours_disk),
    "train_profile": Need(5, 3.3e-4, profile_work, profile_arrays, profile_disk),
    "fuse": Need(13, 4.2e-8, fuse_work, fuse_arrays, fuse_disk),
    "shelve": Need(0.5, 3.2e-5, shelf_rows, shelve_arrays, shelve_disk),
    "search": Need(7, 4e-3, queries, lambda size, told: 200 * answers(size, told),
                   lambda size, told: 30 * answers(size, told)),
    "validate": Need(4, 2.5e-5, lambda size, told: shelf_rows(size, told) + queries(size, told) * told.search.results,
                     validate_arrays, validate_disk),
    "publish": Need(0.5, 0, nothing, nothing, publish_disk),
    "report": Need(0.5, 0, nothing, nothing, nothing),
}  # fmt: skip
