"""How the item-profile encoder and the history attention learn from a shop's behaviour."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import encoder as encoding
from models import together
from models.early_stop import Watch
from models.encoder import Shape, TextEncoder, as_tensors
from models.errors import Diverged, NothingToLearn
from models.histories import Histories
from models.item_text import FIELDS, Tokens
from models.profile import HistoryAttention
from models.together import ALONE, Launch, Team

SHARES = (0.5, 0.25, 0.25)  # of a batch: item ↔ item, query → item, own words → item
ITEMS, QUERIES, WORDS = range(3)  # the kinds of pair, in the order of SHARES
WORD_FIELDS = tuple(FIELDS.index(name) for name in ("title", "category", "brand"))  # what people search for
MAX_WORDS = 4  # tokens of a pseudo-query
GUESSING = 0.1  # what the loss of guessing hidden tokens weighs beside that of the pairs
KEPT_APART = 20  # one pair in so many is not learnt from, but validates
LEAST_APART = 100  # pairs; fewer say nothing, and none is kept apart
VALIDATION_BATCHES = 2
UNTAUGHT = "nothing to learn"  # what ends a training that has no pair
START = "start"  # folder of the weights from which several processes go on
WIDTHS = 3  # texts of a batch are read in so many groups of like length
LEAST_IN_WIDTH = 32  # texts below which a group of its own costs more than it saves


@dataclass(frozen=True)
class Batch:
    """B pairs (left, right), grouped by kind; the right side is always an item.

    Attributes:
        item_lefts: (C,) item positions, the left side of the first C pairs.
        texts: the left side of the other B - C pairs.
        rights: (B,) item positions.
        kinds: (B,) kind of each pair.
        keys: (B,) who the left side is: an item's position, beyond those a query, negative (and unique) for words.
        left_log_q: (B,) log probability that this left side is drawn, up to a constant per kind.
    """

    item_lefts: np.ndarray
    texts: Tokens
    rights: np.ndarray
    kinds: np.ndarray
    keys: np.ndarray
    left_log_q: np.ndarray


class PairSource:
    """Draws batches that mix the kinds of pair which the shop has, always in the same proportion.

    Raises:
        NothingToLearn: there is neither a pair nor an item with a word.
    """

    def __init__(
        self,
        items: Tokens,
        queries: Tokens,
        item_pairs: np.ndarray,
        query_pairs: np.ndarray,
        popularity: np.ndarray,
        batch_size: int,
        learns_words: bool = True,
    ):
        self.items, self.queries, self.item_pairs, self.query_pairs = items, queries, item_pairs, query_pairs
        self.speaking = np.flatnonzero(_is_word(items).any(axis=1) & learns_words)  # items that queries are made of
        self.counts = _counts(batch_size, (len(item_pairs), len(query_pairs), len(self.speaking)))
        behaviour = (popularity + 1.0) / (popularity + 1.0).sum()
        self.log_behaviour = np.log(behaviour)
        share_words = self.counts[WORDS] / batch_size
        self.log_q = np.log((1 - share_words) * behaviour + share_words / max(len(items), 1))  # (I,) drawn as the right
        frequency = np.bincount(query_pairs[:, 0], minlength=len(queries)) if len(query_pairs) else np.zeros(0)
        self.log_query = np.log(np.maximum(frequency, 1))

    def draw(self, dice: np.random.Generator) -> Batch:
        """One batch; equal generators draw equal batches."""
        lefts, item_rights = dice.permuted(self._rows(self.item_pairs, ITEMS, dice), axis=1).T
        asked, query_rights = self._rows(self.query_pairs, QUERIES, dice).T
        word_rights = self._rows(self.speaking, WORDS, dice)
        texts = _stack(self.queries.take(asked), pseudo_queries(self.items.take(word_rights), dice))
        return Batch(
            item_lefts=lefts,
            texts=texts,
            rights=np.concatenate([item_rights, query_rights, word_rights]),
            kinds=np.repeat([ITEMS, QUERIES, WORDS], self.counts),
            keys=np.concatenate([lefts, len(self.items) + asked, -1 - np.arange(len(word_rights))]),
            left_log_q=np.concatenate([self.log_behaviour[lefts], self.log_query[asked], np.zeros(len(word_rights))]),
        )

    def _rows(self, rows: np.ndarray, kind: int, dice: np.random.Generator) -> np.ndarray:
        """As many rows as this kind has in a batch, drawn with replacement."""
        return rows[dice.integers(max(len(rows), 1), size=self.counts[kind])]


def pseudo_queries(items: Tokens, dice: np.random.Generator) -> Tokens:
    """One to four of each item's own title, category and brand tokens, as if someone had searched for it.

    Half of them are neighbours, half scattered (inverse cloze task: Lee, Chang and Toutanova, 2019), so that
    search works in a catalogue that nobody has visited yet.
    """
    is_word = _is_word(items)
    length = dice.integers(1, MAX_WORDS + 1, size=(len(items), 1))
    order = np.cumsum(is_word, axis=1) - 1
    first = (dice.random((len(items), 1)) * np.maximum(is_word.sum(axis=1, keepdims=True) - length + 1, 1)).astype(int)
    neighbours = (order >= first) & (order < first + length)
    lottery = np.where(is_word, dice.random(is_word.shape), np.inf)
    scattered = lottery.argsort(axis=1).argsort(axis=1) < length
    chosen = is_word & np.where(dice.random((len(items), 1)) < 0.5, neighbours, scattered)
    front = np.argsort(~chosen, axis=1, kind="stable")[:, :MAX_WORDS]  # chosen tokens first, in their order
    ids = np.take_along_axis(np.where(chosen, items.ids, 0), front, axis=1)
    return Tokens(ids, np.full_like(ids, FIELDS.index("query"), dtype=np.int8))


@dataclass(frozen=True)
class Training:
    """How a training went: the loss of each step, the figures of each evaluation, and which rule ended it."""

    losses: list[float]
    validation: list[float]
    ended_by: str


@dataclass(frozen=True)
class Lesson:
    """What an encoder learns from and how, as `train_encoder` was told."""

    taught: PairSource
    kept: PairSource
    config: Shape
    steps: int
    learning_rate: float
    patience: int
    max_minutes: float
    seed: int
    threads: int
    temperature: float
    device: str


def train_encoder(
    items: Tokens,
    queries: Tokens,
    item_pairs: np.ndarray,
    query_pairs: np.ndarray,
    popularity: np.ndarray,
    config: Shape,
    *,
    steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 4e-3,
    patience: int = 5,
    max_minutes: float = math.inf,
    seed: int = 0,
    threads: int = 1,
    processes: int = 1,
    temperature: float = 0.05,
    launch: Launch = together.run,
    scratch: Path | None = None,
    start: TextEncoder | None = None,
    device: str = "cpu",
) -> tuple[TextEncoder, Training]:
    """Learn one encoder for items and queries from what people bought together and clicked.

    The loss is the in-batch softmax in both directions, corrected for popularity by logQ (Yi et al., 2019), and a
    little of guessing hidden tokens from the others (Devlin et al., 2019). The weights are the best ones on pairs that
    were kept apart. Equal arguments (seed and threads among them) give equal weights on a CPU, unless `max_minutes`
    ended the training.

    Args:
        items: the catalogue, I rows.
        queries: Q' distinct queries.
        item_pairs: (P, 2) item positions that share a basket or a session.
        query_pairs: (Q, 2) query row and the item position that was clicked or bought.
        popularity: (I,) how often each item occurs in the pairs, or bought counts in their place.
        patience: of `EVALUATIONS` evaluations as many in a row without improvement end the training.
        processes: how many read each batch together and share the threads, with the losses of one but for rounding.
        launch: what starts several processes.
        scratch: a folder that all of them reach, for what one tells another; by default one of this machine.
        start: continue from these weights, which stay as they are.
    Returns:
        The encoder, ready to encode, and how its training went. One that learns nothing from words, and is given no
        pair, stays as it is.
    Raises:
        NothingToLearn: there is neither a pair nor an item with a word.
        ValueError: `start` has another shape than `config`.
        Diverged: a loss is not finite.
        ProcessLost: one of several processes was ended.
    """
    if start is not None and start.config != config:
        raise ValueError(f"`start` has {start.config}, asked for {config}: train from scratch or keep the shape")
    if not config.learns_words and not len(item_pairs) + len(query_pairs):
        return (config.build() if start is None else copy.deepcopy(start)).eval(), Training([], [], UNTAUGHT)
    (taught_items, kept_items), (taught_queries, kept_queries) = split(item_pairs), split(query_pairs)
    taught = PairSource(items, queries, taught_items, taught_queries, popularity, batch_size, config.learns_words)
    kept = PairSource(items, queries, kept_items, kept_queries, popularity, batch_size, config.learns_words)
    lesson = Lesson(
        taught, kept, config, steps, learning_rate, patience, max_minutes, seed, threads, temperature, device
    )
    if processes == 1:
        return _learn(lesson, start, ALONE)
    with TemporaryDirectory(dir=scratch) as folder:
        return _learn_together(lesson, start, partial(launch, _learn_into, processes), Path(folder))


def _learn(lesson: Lesson, start: TextEncoder | None, team: Team) -> tuple[TextEncoder, Training]:
    """Every process of the team ends with the same weights."""
    with reproducible(lesson.seed, max(lesson.threads // team.count, 1), lesson.device):
        encoder = (lesson.config.build() if start is None else copy.deepcopy(start)).to(lesson.device).train()
        dice = np.random.default_rng(lesson.seed)

        def pair_loss(batch: Batch, source: PairSource) -> tuple[Tensor, Tensor]:
            left, right, guesses = _sides(encoder, source.items, batch, team)
            return contrastive_loss(left @ right.T / lesson.temperature, batch, source.log_q), guesses

        def loss() -> Tensor:
            pairs, guesses = pair_loss(lesson.taught.draw(dice), lesson.taught)
            count = team.whole(torch.tensor(len(guesses)))
            return pairs + GUESSING * team.whole(guesses.sum()) / max(int(count), 1)

        @torch.inference_mode()
        def validate() -> float:
            encoder.eval()
            same = np.random.default_rng(lesson.seed)
            losses = [pair_loss(lesson.kept.draw(same), lesson.kept)[0].item() for _ in range(VALIDATION_BATCHES)]
            encoder.train()
            return team.told(float(np.mean(losses)))

        watch = Watch(validate, lesson.patience, 60 * lesson.max_minutes, lambda: team.told(time.monotonic()))
        with encoder.learning(lesson.learning_rate) as groups:
            if not lesson.config.learns_words:
                watch.look(encoder)  # what it knows already may be the best that it ever will
            losses = _descend(encoder, groups, loss, lesson.steps, watch, team)
            encoder.load_state_dict(watch.best)
    return encoder.eval(), Training(losses, watch.figures, watch.ended_by)


def _learn_together(
    lesson: Lesson, start: TextEncoder | None, launch: Callable[..., None], folder: Path
) -> tuple[TextEncoder, Training]:
    """As `_learn`, by new processes; what they learnt comes back by files."""
    if start is not None:
        start.save(folder / START)
    launch(lesson, folder, start is not None)
    told = json.loads((folder / "training.json").read_text())
    if "diverged" in told:
        raise Diverged(told["diverged"])
    return encoding.load(folder), Training(**told)


def _learn_into(team: Team, lesson: Lesson, folder: Path, goes_on: bool) -> None:
    """Learn as one of several, going on from the weights in `folder` if any; the first writes for all. Done again, it
    starts from the same weights."""
    try:
        encoder, training = _learn(lesson, encoding.load(folder / START) if goes_on else None, team)
    except Diverged as error:
        encoder, told = None, {"diverged": str(error)}
    else:
        told = asdict(training)
    if team.rank == 0:
        if encoder:
            encoder.save(folder)
        (folder / "training.json").write_text(json.dumps(told))


def split(pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (P, 2) to learn from, and those kept apart; equal pairs, also turned around, fall on one side.

    Where those would be fewer than `LEAST_APART`, all pairs do both.
    """
    low, high = (np.sort(pairs, axis=1).astype(np.uint64) + np.uint64(1)).T
    mixed = (low * np.uint64(0x9E3779B97F4A7C15) ^ high) * np.uint64(0xBF58476D1CE4E5B9)
    is_kept = (mixed >> np.uint64(40)) % np.uint64(KEPT_APART) == 0
    return (pairs[~is_kept], pairs[is_kept]) if is_kept.sum() >= LEAST_APART else (pairs, pairs)


def contrastive_loss(scores: Tensor, batch: Batch, log_q: np.ndarray) -> Tensor:
    """Mean of left → right and right → left cross-entropy of scores (B, B) whose diagonal is true.

    Left → right, all items of the batch compete. Right → left, only lefts of the same kind do: a query is no rival
    of an item. What is really the same item or query is no negative either.
    """
    rights, keys, kinds = batch.rights, batch.keys, batch.kinds
    same_right = rights[:, None] == rights[None, :]
    itself = keys[:, None] == rights[None, :]  # a left item that is also the right of another pair
    rivals = ~(same_right | itself)
    left_rivals = ~(same_right | itself.T | (keys[:, None] == keys[None, :])) & (kinds[:, None] == kinds[None, :])
    forward = _softmax_loss(scores, log_q[rights], rivals)
    return (forward + _softmax_loss(scores.T, batch.left_log_q, left_rivals)) / 2


def train_history(
    item_vectors: np.ndarray,
    histories: Histories,
    targets: np.ndarray,
    popularity: np.ndarray,
    *,
    steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-2,
    seed: int = 0,
    threads: int = 1,
    temperature: float = 0.1,
    device: str = "cpu",
) -> HistoryAttention:
    """Learn which events of a history foretell the next purchase; the item vectors stay as they are.

    Args:
        item_vectors: (I, E) float32 from `encode`.
        histories: N histories, each as it stood before its target.
        targets: (N,) item position bought next.
        popularity: (I,) how often each item is a target.
    Raises:
        NothingToLearn: no history has an event.
        Diverged: a loss is not finite.
    """
    usable = np.flatnonzero((histories.positions >= 0).any(axis=1))
    if not len(usable):
        raise NothingToLearn(f"none of {len(histories)} histories has an event: widen the training window")
    log_q = np.log((popularity + 1.0) / (popularity + 1.0).sum())
    with reproducible(seed, threads, device):
        attention = HistoryAttention(item_vectors.shape[1]).to(device).train()
        vectors = torch.from_numpy(item_vectors).to(device)
        dice = np.random.default_rng(seed)

        def loss() -> Tensor:
            rows = usable[dice.integers(len(usable), size=batch_size)]
            wanted = targets[rows]
            users, _ = attention(*_history_tensors(vectors, histories, rows))
            scores = users @ vectors[torch.from_numpy(wanted).to(device)].T / temperature  # (B, B)
            return _softmax_loss(scores, log_q[wanted], wanted[:, None] != wanted[None, :])

        groups = [{"params": list(attention.parameters()), "lr": learning_rate}]
        _descend(attention, groups, loss, steps)
    return attention.eval()


@torch.inference_mode()
def user_vectors(
    attention: HistoryAttention, item_vectors: np.ndarray, histories: Histories, batch: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """User vectors (U, E) and attention (U, H), both float32; zero for users without history."""
    vectors = torch.from_numpy(item_vectors).to(attention.decay.device)
    users = np.zeros((len(histories), item_vectors.shape[1]), dtype=np.float32)
    weights = np.zeros(histories.positions.shape, dtype=np.float32)
    for start in range(0, len(histories), batch):
        rows = np.arange(start, min(start + batch, len(histories)))
        found = attention(*_history_tensors(vectors, histories, rows))
        users[rows], weights[rows] = (one.cpu().numpy() for one in found)
    return users, weights


def _sides(encoder: TextEncoder, items: Tokens, batch: Batch, team: Team) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors of the left and the right sides, (B, E) each, and the losses (M,) of guessing what this process hid.

    Every item is read once. An encoder that is not learning reads everything.
    """
    unique, place = np.unique(np.concatenate([batch.item_lefts, batch.rights]), return_inverse=True)
    vectors, guesses = _read(encoder, items.take(unique), team)
    left, right = vectors[torch.from_numpy(place)].split([len(batch.item_lefts), len(batch.rights)])
    if len(batch.texts):
        found, more = _read(encoder, batch.texts, team)
        left, guesses = torch.cat([left, found]), torch.cat([guesses, more])
    return left, right, guesses


def _read(encoder: TextEncoder, tokens: Tokens, team: Team) -> tuple[Tensor, Tensor]:
    """Vectors (N, E) and losses (M,), in groups of like length, so that a long text does not widen all."""
    order = np.argsort(tokens.lengths, kind="stable")
    groups = np.array_split(order, WIDTHS) if len(tokens) >= WIDTHS * LEAST_IN_WIDTH else [order]
    own = slice(team.rank, None, team.count)
    told = [_recall(encoder, *as_tensors(tokens.take(rows), encoder), own) for rows in groups]
    found, guesses = (torch.cat(one) for one in zip(*told, strict=True))
    places = torch.from_numpy(np.concatenate([rows[own] for rows in groups])).to(found.device)
    vectors = found.new_zeros(len(tokens), found.shape[1]).index_copy(0, places, found)
    return team.whole(vectors), guesses


def _recall(encoder: TextEncoder, ids: Tensor, fields: Tensor, own: slice) -> tuple[Tensor, Tensor]:
    """Vectors and losses of a process's own rows; what is hidden is drawn for all, so that each draws the same."""
    if not encoder.training:
        return encoder(ids[own], fields[own]), torch.zeros(0, device=ids.device)
    hidden = encoder.hide(ids)
    return encoder.recall(ids[own], fields[own], hidden[own])


def _softmax_loss(scores: Tensor, log_q: np.ndarray, rivals: np.ndarray) -> Tensor:
    """Cross-entropy of the diagonal of (B, B) against its rivals, each column lowered by its log probability."""
    allowed = rivals | np.eye(len(rivals), dtype=bool)
    corrected = scores - torch.from_numpy(log_q).to(scores)
    corrected = corrected.masked_fill(torch.from_numpy(~allowed).to(scores.device), -torch.inf)
    return functional.cross_entropy(corrected, torch.arange(len(scores), device=scores.device))


def _descend(
    module: nn.Module,
    groups: list[dict[str, Any]],
    loss: Callable[[], Tensor],
    steps: int,
    watch: Watch | None = None,
    team: Team = ALONE,
) -> list[float]:
    """AdamW for `steps` steps, a tenth of them warming up, then along a cosine to zero; the loss of each step."""
    peak, optimizer = groups[-1]["lr"], torch.optim.AdamW(groups, weight_decay=0.01)
    warm_up = max(steps // 10, 1)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warm_up, (1 + math.cos(math.pi * step / steps)) / 2)
    )
    losses = []
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        current = loss()
        losses.append(current.item())
        if not math.isfinite(losses[-1]):
            raise Diverged(f"the loss of step {step} of {steps} is {losses[-1]}: lower learning_rate {peak}")
        current.backward()
        team.add_gradients([one for group in groups for one in group["params"]])
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if watch and watch.is_over(module, step, steps):
            break
    return losses


@contextmanager
def reproducible(seed: int, threads: int, device: str) -> Iterator[None]:
    """PyTorch with this seed and thread count inside, as it was before outside; on a device that is no CPU also with
    algorithms that give equal results, where it has some."""
    before, is_strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[] if device == "cpu" else [device]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        if device != "cpu":
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS adds up in any order
            torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            torch.use_deterministic_algorithms(
                is_strict, warn_only=torch.is_deterministic_algorithms_warn_only_enabled()
            )


def _history_tensors(vectors: Tensor, histories: Histories, rows: np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four arguments of `HistoryAttention.forward` for these rows."""
    arrays = histories.positions[rows], histories.ages_days[rows], histories.event_weights[rows]
    positions, ages, weights = (torch.from_numpy(np.ascontiguousarray(one)).to(vectors.device) for one in arrays)
    mask = positions >= 0
    history = vectors[positions.clamp_min(0).long()]  # (B, H, E)
    ages, weights = (torch.where(mask, one, 1).to(vectors) for one in (ages, weights))  # padding may hold anything
    return history, ages, weights, mask


def _is_word(items: Tokens) -> np.ndarray:
    """(N, T) bool: tokens of the fields that people search for."""
    return np.isin(items.fields, WORD_FIELDS) & (items.ids > 0)


def _counts(batch_size: int, available: tuple[int, int, int]) -> list[int]:
    """Pairs of each kind in a batch: by SHARES, over the kinds that exist at all."""
    shares = np.where(np.array(available) > 0, SHARES, 0.0)
    if not shares.any():
        raise NothingToLearn("no basket, no query and no item with a title: load items before training the profile")
    ends = np.rint(np.cumsum(shares / shares.sum()) * batch_size).astype(int)
    return np.diff(ends, prepend=0).tolist()


def _stack(first: Tokens, second: Tokens) -> Tokens:
    """The rows of both, padded to the wider."""
    width = max(first.ids.shape[1], second.ids.shape[1])
    padded = [np.pad(one, ((0, 0), (0, width - one.shape[1]))) for t in (first, second) for one in (t.ids, t.fields)]
    return Tokens(np.concatenate(padded[0::2]), np.concatenate(padded[1::2]))
