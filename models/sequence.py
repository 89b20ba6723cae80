"""The sequence network: a Transformer that reads a user's history and foretells what the next day brings.

The idea is Kang and McAuley's (2018), with time in place of order: what happened on one day has none, and a history is
asked on several days at once, each time seeing only the days before.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from models.vocabulary import Vocabulary

QUIET = 0.02  # spread of the weights that write into the residual stream: layers start almost silent
UNSEEN = -1e9  # logit of what attention must not read


@dataclass(frozen=True)
class SequenceConfig:
    """The shape of the network; saved beside its weights."""

    count_items: int
    content_size: int  # of the item-profile vectors
    embedding_size: int = 64
    layers: int = 1
    heads: int = 2
    dropout: float = 0.2


class TimedBlock(nn.Module):
    """One pre-norm Transformer layer whose heads forget by days: each loses decay × log(1 + days between)."""

    def __init__(self, config: SequenceConfig):
        super().__init__()
        width, self.heads = config.embedding_size, config.heads
        self.attention_norm, self.thought_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        conclude = nn.Linear(2 * width, width)
        self.thought = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), conclude)
        self.decay = nn.Parameter(torch.linspace(0.0, 1.0, config.heads))
        self.dropout = nn.Dropout(config.dropout)
        for quiet in (self.write, conclude):
            nn.init.normal_(quiet.weight, std=QUIET)

    def forward(self, x: Tensor, gaps: Tensor, seen: Tensor) -> Tensor:
        b, h, d = x.shape
        q, k, v = self.read(self.attention_norm(x)).view(b, h, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=_forgetting(self.decay, gaps, seen))
        x = x + self.dropout(self.write(y.transpose(1, 2).reshape(b, h, d)))  # (B, H, D)
        return x + self.dropout(self.thought(self.thought_norm(x)))


class SequenceModel(nn.Module):
    """Scores items for a day by what the user did on the days before.

    An item is its profile vector, projected, plus a vector of its own that starts at zero: a cold item is read by its
    text alone, a well-known one also by what happened to it.

    Raises:
        ValueError: embedding_size is not a multiple of heads.
    """

    def __init__(self, config: SequenceConfig):
        super().__init__()
        width, self.config = config.embedding_size, config
        if width % config.heads:
            raise ValueError(f"embedding_size {width} is not a multiple of heads {config.heads}: change one")
        self.content_in, self.content_out = (nn.Linear(config.content_size, width, bias=False) for _ in range(2))
        self.own_in, self.own_out = (nn.Embedding(config.count_items, width) for _ in range(2))
        self.bias = nn.Embedding(config.count_items, 1)  # how often an item is bought by anybody
        self.worth = nn.Linear(1, width, bias=False)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(TimedBlock(config) for _ in range(config.layers))
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.decay = nn.Parameter(torch.linspace(0.0, 1.0, config.heads))
        self.trust = nn.Parameter(torch.full((config.heads,), 0.5))
        for silent in (self.own_in, self.own_out, self.bias, self.worth, self.query):
            nn.init.zeros_(silent.weight)

    def outputs(self, content: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors (N, D) and biases (N,) of items as targets, from all profile vectors (I, C) and positions (N,)."""
        return self.content_out(content[items]) + self.own_out(items), self.bias(items)[:, 0]

    def forward(
        self, content: Tensor, items: Tensor, days: Tensor, weights: Tensor, mask: Tensor, asked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """User vectors (B, Q, D) and attention (B, Q, H), the mean over heads, which sums to 1 (0 if nothing is seen).

        Args:
            content: (I, C) item-profile vectors.
            items: (B, H) positions; what stands at padding does not matter.
            days: (B, H) day of each event.
            weights: (B, H) what each event is worth, positive.
            mask: (B, H) bool, False at padding.
            asked: (B, Q) days to foretell; only events of earlier days are read.
        """
        logs = weights.clamp_min(1e-6).log()  # (B, H)
        x = self.content_in(content[items]) + self.own_in(items) + self.worth(logs[..., None])  # (B, H, D)
        x = self.dropout(x)
        gaps = days[:, :, None] - days[:, None, :]  # (B, H, H)
        for block in self.blocks:
            x = block(x, gaps, (gaps >= 0) & mask[:, None, :])
        gaps = asked[:, :, None] - days[:, None, :]  # (B, Q, H)
        return self._pool(x, logs, gaps, (gaps > 0) & mask[:, None, :])

    def _pool(self, x: Tensor, logs: Tensor, gaps: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """What the asked days see of the events, x (B, H, D): first by age and worth alone, then by what that holds."""
        prior = _forgetting(self.decay, gaps, seen) + self.trust[:, None, None] * logs[:, None, None, :]
        recent = prior[:, 0].softmax(dim=-1) @ x  # (B, Q, D)
        q, k, v = (_by_head(one, self.config.heads) for one in (self.query(recent), self.key(x), self.value(x)))
        match = q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])
        attention = (match + prior).softmax(dim=-1) * seen[:, None]  # (B, heads, Q, H)
        return (attention @ v).transpose(1, 2).flatten(2), attention.mean(dim=1)

    def carried(self, before: Vocabulary, now: Vocabulary) -> SequenceModel:
        """The same network over the positions of another vocabulary; new items are known by their text alone."""
        places = now.positions(before.ids)
        known = torch.from_numpy(places >= 0)
        model, weights = SequenceModel(replace(self.config, count_items=len(now))), self.state_dict()
        for name in ("own_in.weight", "own_out.weight", "bias.weight"):
            rows = torch.zeros(len(now), weights[name].shape[1])
            rows[torch.from_numpy(places)[known]] = weights[name][known]
            weights[name] = rows
        model.load_state_dict(weights)
        return model.eval()

    def save(self, folder: Path | str) -> None:
        """Write sequence.safetensors and sequence.json."""
        weights = {name: one.detach().cpu().contiguous() for name, one in self.state_dict().items()}
        Path(folder).mkdir(parents=True, exist_ok=True)
        save_file(weights, Path(folder) / "sequence.safetensors")
        (Path(folder) / "sequence.json").write_text(json.dumps(asdict(self.config)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> SequenceModel:
        """Read what `save` wrote; ready to use."""
        config = json.loads((Path(folder) / "sequence.json").read_text(encoding="utf-8"))
        model = cls(SequenceConfig(**config))
        model.load_state_dict(load_file(Path(folder) / "sequence.safetensors"))
        return model.eval()


def _forgetting(decay: Tensor, gaps: Tensor, seen: Tensor) -> Tensor:
    """(B, heads, Q, H) logits that fall with the days between, -1e9 for what is not seen."""
    logits = -decay[:, None, None] * gaps.clamp_min(0).log1p()[:, None]
    return logits.masked_fill(~seen[:, None], UNSEEN)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(B, N, D) as (B, heads, N, D/heads)."""
    return x.view(*x.shape[:2], heads, -1).transpose(1, 2)
