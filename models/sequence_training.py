"""How the sequence network learns from histories, and what it gives: user and item vectors whose product is a score."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from models.errors import Diverged, NothingToLearn
from models.histories import Histories
from models.profile_training import reproducible
from models.sequence import SequenceConfig, SequenceModel

TOMORROW = 1.0  # the day that is asked, counted from the last one that is known
USERS_PER_BLOCK = 256
WIDTHS = 4  # histories of a batch are read in so many groups of like length


def train_sequence(
    content: np.ndarray,
    histories: Histories,
    config: SequenceConfig,
    *,
    epochs: int = 6,
    batch_size: int = 64,
    most_steps: int = 200,
    learning_rate: float = 4e-3,
    half_life_days: float = 90.0,
    rivals: int = 8192,
    most_users: int | None = None,
    seed: int = 0,
    threads: int = 1,
    start: SequenceModel | None = None,
    device: str = "cpu",
) -> SequenceModel:
    """Learn to foretell each day of a history from the days before it, all of its days at once.

    The loss is the softmax over the items that occur in histories. Where these are more than `rivals`, a sample drawn
    by popularity stands for them, each lowered by the log probability that it is in the sample (Bengio and Senecal,
    2008), so that what is popular is neither favoured nor punished by the drawing. Equal arguments give equal weights
    on a CPU.

    Args:
        content: (I, C) item-profile vectors; they stay as they are.
        histories: of N users, oldest event first.
        batch_size: users of a step; more of them where an epoch would have more than `most_steps`.
        half_life_days: days after which a purchase counts half as an example.
        most_users: users of one epoch at most, drawn anew for each; by default all whose history teaches anything.
        start: continue from these weights, which stay as they are.
    Raises:
        NothingToLearn: nobody bought anything on a later day than the first.
        Diverged: a loss is not finite.
    """
    usable = np.flatnonzero((_targets(histories)).any(axis=1))
    if not len(usable):
        raise NothingToLearn(f"none of {len(histories)} users came back on another day: widen the training window")
    with reproducible(seed, threads, device):
        model = (SequenceModel(config) if start is None else copy.deepcopy(start)).to(device).train()
        dice, vectors = np.random.default_rng(seed), _content(content, device)
        counts = np.bincount(histories.positions[histories.positions >= 0], minlength=len(content))
        drawn = min(len(usable), most_users or len(usable))
        batches = min(max(drawn // batch_size, 1), most_steps)
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, epochs * batches, pct_start=0.1)
        for _ in range(epochs):
            for rows in np.array_split(dice.permutation(usable)[:drawn], batches):
                loss = _loss(model, vectors, histories.of(rows), counts, half_life_days, rivals, dice)
                if not math.isfinite(loss.item()):
                    raise Diverged(f"the loss over histories is {loss.item()}: lower learning_rate {learning_rate}")
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    return model.eval()


@torch.inference_mode()
def sequence_vectors(
    model: SequenceModel, content: np.ndarray, histories: Histories
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users (U, D + 1), items (I, D + 1) and attention (U, H), all float32; a user without history is zero.

    The last number of a user is 1 and that of an item its bias, so that the inner product is the whole score.
    Histories of like length are read together, no wider than they are.
    """
    device = model.bias.weight.device
    vectors = _content(content, device)
    users = np.zeros((len(histories), model.config.embedding_size + 1), dtype=np.float32)
    attention = np.zeros(histories.positions.shape, dtype=np.float32)
    order = np.argsort(histories.lengths, kind="stable")
    for start in range(0, len(histories), USERS_PER_BLOCK):
        rows = order[start : start + USERS_PER_BLOCK]
        few, columns = histories.of(rows).narrow()
        items, days, weights, mask = _tensors(few, device)
        found, shares = model(vectors, items, days, weights, mask, days.new_full((len(rows), 1), TOMORROW))
        users[rows] = torch.hstack([found[:, 0], mask.any(dim=1, keepdim=True)]).cpu().numpy()
        attention[np.ix_(rows, columns)] = shares[:, 0].cpu().numpy()
    own, bias = model.outputs(vectors, torch.arange(len(vectors), device=device))
    return users, torch.hstack([own, bias[:, None]]).cpu().numpy(), attention


def withhold_last_day(histories: Histories, users: np.ndarray) -> tuple[Histories, list[np.ndarray]]:
    """`histories` without the last day of these users (positions), and what each of them bought on it."""
    rows = histories.of(users)
    last = np.where(rows.positions >= 0, rows.ages_days, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    on_last = (rows.positions >= 0) & (rows.ages_days == last)
    wanted = [np.unique(one[day]) for one, day in zip(rows.positions, on_last & rows.bought, strict=True)]
    positions = histories.positions.copy()
    positions[users] = np.where(on_last, -1, rows.positions)
    return replace(histories, positions=positions), wanted


def _loss(
    model: SequenceModel,
    content: Tensor,
    histories: Histories,
    counts: np.ndarray,
    half_life_days: float,
    rivals: int,
    dice: np.random.Generator,
) -> Tensor:
    """Mean cross-entropy of the items bought, each foretold from the days before its own.

    Histories of like length are read together, no wider than they are.
    """
    groups = np.array_split(np.argsort(histories.lengths, kind="stable"), WIDTHS)
    told = [_foretold(model, content, histories.of(rows).narrow()[0]) for rows in groups if len(rows)]
    users = torch.cat([vectors for vectors, *_ in told])  # (D, ·)
    starts = np.cumsum([0, *(len(vectors) for vectors, *_ in told)])
    example = torch.cat([places + int(start) for (_, places, *_), start in zip(told, starts, strict=False)])
    bought, days = np.concatenate([one[2] for one in told]), torch.cat([one[3] for one in told])
    offered, log_share = _offered(bought, counts, rivals, dice)
    vectors, bias = model.outputs(content, torch.from_numpy(offered).to(content.device))
    scores = users @ vectors.T + bias - torch.from_numpy(log_share).to(bias)
    logs = scores.log_softmax(dim=1)[example, torch.from_numpy(np.searchsorted(offered, bought)).to(content.device)]
    counted = torch.exp2(days / half_life_days)
    return -(counted * logs).sum() / counted.sum()


def _foretold(model: SequenceModel, content: Tensor, histories: Histories) -> tuple[Tensor, Tensor, np.ndarray, Tensor]:
    """One vector (D, ·) for all that a user bought on a day; by purchase (N,) its row, the item, and the day."""
    items, days, weights, mask = _tensors(histories, content.device)
    places, asked = _days(days, mask)  # (B, H) index of each event's day, (B, Q) those days
    targets = _targets(histories)
    row, column = (torch.from_numpy(one).to(content.device) for one in targets.nonzero())
    users, _ = model(content, items, days, weights, mask, asked)  # (B, Q, D)
    distinct, example = (row * asked.shape[1] + places[row, column]).unique(return_inverse=True)
    return users.flatten(0, 1)[distinct], example, histories.positions[targets], days[row, column]


def _offered(
    bought: np.ndarray, counts: np.ndarray, rivals: int, dice: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (N,), ascending, of the items that compete, and the log probability (N,) that each of them does."""
    known = np.flatnonzero(counts)
    if len(known) <= rivals:
        return known, np.zeros(len(known))
    ends = np.cumsum(counts[known])
    drawn = known[np.searchsorted(ends, dice.integers(ends[-1], size=rivals), side="right")]
    offered = np.union1d(drawn, bought)
    return offered, np.log(-np.expm1(rivals * np.log1p(-counts[offered] / counts.sum())))


def _targets(histories: Histories) -> np.ndarray:
    """(N, H) bool: purchases on a later day than the first that is known."""
    present = histories.positions >= 0
    first = np.where(present, histories.ages_days, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    return present & histories.bought & (histories.ages_days < first)


def _days(days: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The index (B, H) of each event's day among its user's, and those days (B, Q); padding is a day before all."""
    days = torch.where(mask, days, days.new_tensor(-torch.inf))
    sorted_, order = days.sort(dim=1)
    is_later = (sorted_[:, 1:] != sorted_[:, :-1]).long()
    rank = torch.cat([is_later.new_zeros(len(days), 1), is_later], 1).cumsum(1)
    asked = days.new_full((len(days), int(rank.max()) + 1), -torch.inf).scatter(1, rank, sorted_)
    return torch.empty_like(rank).scatter(1, order, rank), asked.nan_to_num(neginf=-1e6)


def _content(vectors: np.ndarray, device: torch.device | str) -> Tensor:
    """Unit vectors with numbers of size one."""
    return torch.from_numpy(vectors * np.float32(math.sqrt(vectors.shape[1]))).to(device)


def _tensors(histories: Histories, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Items, days (0 is the last one that is known, earlier ones negative), weights and mask, each (B, H)."""
    arrays = histories.positions, histories.ages_days, histories.event_weights
    positions, ages, weights = (torch.from_numpy(one).to(device) for one in arrays)
    mask = positions >= 0
    days = torch.where(mask, -ages.float(), 0.0)
    return positions.long().clamp_min(0), days, torch.where(mask, weights.float(), 1.0), mask
