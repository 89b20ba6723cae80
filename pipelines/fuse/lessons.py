"""Lessons: what a window teaches, block by block of its users, and what is kept of it for the rankings to learn."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from scipy import sparse

from models.candidates import Candidates
from pipelines.fuse.features import Moment
from pipelines.fuse.slate import Slate, nothing, slate
from pipelines.fuse.sources import USERS_PER_BLOCK
from pipelines.lists.chance import STEP, mixed
from pipelines.marts import Marts, values_at
from pipelines.run import Run
from pipelines.settings import Settings

LEARNED = ("for_you", "discover")  # placements that rankings learn of; buy_again is for_you without the rest
WEIGHED_USERS = 5000  # of each window teach the blend: it has six weights, and reads all that these could be shown


@dataclass(frozen=True)
class Lesson:
    """A slate as of a cut, and what was bought in the window after it."""

    slate: Slate
    labels: np.ndarray  # (R,) bool
    wanted: sparse.csr_matrix  # (B, I), also what nobody proposed

    def only(self, kept: np.ndarray) -> "Lesson":
        """Fewer rows, `kept` (R,) bool, of the same users."""
        return Lesson(self.slate.only(kept), self.labels[kept], self.wanted)

    def of(self, places: np.ndarray) -> "Lesson":
        """Fewer users, by their ascending places."""
        kept = np.isin(self.slate.found.rows, places)
        return Lesson(self.slate.of(places), self.labels[kept], self.wanted[places])

    def among(self, users: np.ndarray) -> "Lesson":
        """Those of these users, positions, who are here."""
        return self.of(np.flatnonzero(np.isin(self.slate.found.owners, users)))

    def bare(self) -> "Lesson":
        """Without features."""
        nothing = np.empty((len(self.labels), 0), dtype=np.float32)
        return Lesson(replace(self.slate, features=nothing), self.labels, self.wanted)

    def half(self, odd: bool) -> "Lesson":
        """Every other user of the shop."""
        return self.of(np.flatnonzero(self.slate.found.owners % 2 == odd))

    def placed(self, placement: str) -> "Lesson":
        """What the window teaches of one placement: rows that may stand there, and what was wanted of them."""
        kept = self.slate.eligible(placement)
        if kept.all():
            return self
        found = self.slate.found
        pairs = found.rows[~kept], found.items[~kept]
        barred = sparse.csr_matrix((np.ones(len(pairs[0])), pairs), shape=self.wanted.shape)
        wanted = sparse.csr_matrix(self.wanted - self.wanted.multiply(barred))
        wanted.eliminate_zeros()
        return Lesson(self.slate.only(kept), self.labels[kept], wanted)

    def without(self, group: str, proposals: int) -> "Lesson":
        """The lesson that the window would have been without a group of features; see `Slate.without`."""
        slate, kept = self.slate.without(group, proposals)
        return Lesson(slate, self.labels[kept], self.wanted)

    def choices(self, placement: str) -> np.ndarray:
        """(R,) bool: rows that may stand on a placement, of users who took one of them."""
        found, eligible = self.slate.found, self.slate.eligible(placement)
        took = np.bincount(found.rows[eligible & self.labels], minlength=len(found.owners)) > 0
        return eligible & took[found.rows]

    def thinned(self, placement: str, negatives: int, seed: int) -> np.ndarray:
        """(R,) bool: of these all that was taken, and at most so many of each user's others: most teach the same."""
        choices, found = self.choices(placement), self.slate.found
        others = choices & ~self.labels
        ranks = found.ranks(np.where(others, drawn(found, seed), -1.0))
        return choices & (self.labels | (ranks <= negatives))


def drawn(found: Candidates, seed: int) -> np.ndarray:
    """(R,) numbers from 0 to 1 that depend on nothing but seed, user and item: a row draws the same in any company."""
    users = mixed(found.row_owners.astype(np.uint64) + np.uint64(STEP * (seed + 1) % 2**64))
    return (mixed(users + found.items.astype(np.uint64)) >> np.uint64(11)) * 2.0**-53


@dataclass(frozen=True)
class Window:
    """The days between two cuts, and users (B,) who bought in them: the wanted (B, I); `fuse.learn_users` at most."""

    users: np.ndarray
    wanted: sparse.csr_matrix
    moment: Callable[[], Moment]  # of the first cut: everything that is known, for as long as it is read

    @classmethod
    def between(cls, run: Run, marts: Marts, part: str, after: str) -> "Window":
        return cls(*marts.window(run.cuts[part], run.cuts[after]), lambda: Moment(run, marts, part))

    def lessons(self) -> Iterator[Lesson]:
        """Block by block of users, made anew each time: what they could have been shown at the first cut."""
        if not len(self.users):
            yield Lesson(nothing(), np.empty(0, dtype=bool), self.wanted)
            return
        moment = self.moment()
        for start in range(0, len(self.users), USERS_PER_BLOCK):
            block = slice(start, start + USERS_PER_BLOCK)
            found, wanted = slate(moment, self.users[block]), self.wanted[block]
            yield Lesson(found, values_at(wanted, found.found.rows, found.found.items) > 0, wanted)

    def every(self, most: int) -> np.ndarray:
        """Every n-th user, so that there are at most so many."""
        return self.users[:: -(-len(self.users) // most) or 1]


def windows(run: Run, marts: Marts) -> list[Window]:
    """One per cut before the run's day, oldest first; the last has the held-out days."""
    return [Window.between(run, marts, part, after) for part, after in pairwise(marts.cuts)]


@dataclass
class Notes:
    """What is kept of a window's lessons, block by block, for rankings to learn.

    Attributes:
        weighing: users whose rows are all kept for the blend; None: everybody's.
        sampling: users of whom everything is kept; None: nobody's.
        thin: rows that teach trees, of any placement.
        weighed, sampled: rows of those users; the former without features.
    """

    settings: Settings
    weighing: np.ndarray | None = None
    sampling: np.ndarray | None = None
    placements: Sequence[str] = LEARNED
    thin: list[Lesson] = field(default_factory=list)
    weighed: list[Lesson] = field(default_factory=list)
    sampled: list[Lesson] = field(default_factory=list)

    def taken(self, lessons: Iterable[Lesson]) -> Iterator[Lesson]:
        """The same lessons, of each of which notes are taken as it passes."""
        for lesson in lessons:
            self._take(lesson)
            yield lesson

    def read(self, lessons: Iterable[Lesson]) -> "Notes":
        """These notes, with those of all lessons."""
        for _ in self.taken(lessons):
            pass
        return self

    def half(self, odd: bool) -> "Notes":
        """Of every other user of the shop."""
        thin, weighed = ([one.half(odd) for one in notes] for notes in (self.thin, self.weighed))
        return replace(self, thin=thin, weighed=weighed, sampled=[])

    def _take(self, lesson: Lesson) -> None:
        negatives, seed = self.settings.fuse.negatives, self.settings.seed
        teaches = [lesson.thinned(placement, negatives, seed) for placement in self.placements]
        self.thin.append(lesson.only(np.any(teaches, axis=0)))
        self.weighed.append((lesson if self.weighing is None else lesson.among(self.weighing)).bare())
        if self.sampling is not None:
            self.sampled.append(lesson.among(self.sampling))
