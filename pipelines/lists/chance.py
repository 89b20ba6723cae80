"""Chance: places of a list whose row is drawn, with how likely each draw was; the same for a list in any company."""

from dataclasses import dataclass, replace

import numpy as np

TEMPERATURE = 0.5  # in widths of a list's scores: the best of all candidates is e² times as likely as the worst
STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Draws:
    """Rows are drawn one by one, each from what may stand on its place, by the softmax of what it is worth: a ranking
    of Plackett and Luce, by the Gumbel trick (Kool and others 2019), so that the probability of each row is known.

    Attributes:
        lists: (B,) uint64, a number of each list's own.
        items: (I,) uint64, the same of each item.
        share: of the places of a list, rounded, that are drawn; they are spread evenly and the same for all lists.
    """

    lists: np.ndarray
    items: np.ndarray
    share: float

    def of(self, lists: np.ndarray) -> "Draws":
        return replace(self, lists=self.lists[lists])

    def at(self, place: int) -> bool:
        """Whether the row of a place, from 0, is drawn."""
        return int(self.share * (place + 1) + 0.5) > int(self.share * place + 0.5)

    def drawn(self, place: int, items: np.ndarray, worth: np.ndarray, may: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B,) one column of each list and (B,) its probability.

        Args:
            items, worth: (B, P)
            may: (B, P) bool, what is drawn from; a list that may have nothing gets 0 and probability 1.
        """
        warmed = np.where(may, worth / TEMPERATURE, -np.inf)
        best = np.max(warmed, axis=1, initial=-np.inf, keepdims=True)
        weights = np.exp(warmed - np.where(np.isfinite(best), best, 0.0))
        columns = (warmed + self._gumbel(place, items)).argmax(axis=1)
        told = np.take_along_axis(weights, columns[:, None], axis=1)[:, 0]
        total = weights.sum(axis=1)
        return columns, np.divide(told, total, out=np.ones(len(told)), where=total > 0)

    def _gumbel(self, place: int, items: np.ndarray) -> np.ndarray:
        """(B, P) Gumbel noise that depends on nothing but list, item and place."""
        of_items = mixed(self.items + np.uint64(STEP * (place + 1) % 2**64))
        bits = mixed(self.lists[:, None] + of_items[items])
        uniform = ((bits >> np.uint64(11)) + 0.5) * 2.0**-53
        return -np.log(-np.log(uniform))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """uint64 numbers, of which each bit depends on all bits of those given (SplitMix64, Steele and others 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
