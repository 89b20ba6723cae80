"""What reads queries without torch gives the vectors that torch gives, and search by hand waits for nothing heavy."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.encoder import encode
from models.item_text import TextTokenizer
from models.profile import ItemProfileEncoder, ProfileConfig
from models.reading import OwnEncoder

TEXTS = ["blue garden lantern", "", "mug", "a chair of oak for the garden, with a blue cushion", "mug"]


def test_numpy_and_torch_read_alike(tmp_path: Path):
    """All weights at random, texts of every length and an empty one: equal to rounding, also after a file."""
    torch.manual_seed(3)
    tokenizer = TextTokenizer.train(TEXTS, 300)
    slow = ItemProfileEncoder(ProfileConfig(tokenizer.vocabulary_size, 24, 3, 2, 32, 16)).eval()
    with torch.no_grad():
        for weights in slow.parameters():
            weights.normal_(std=0.3)
        slow.token.weight[0] = 0.0
    tokens = tokenizer.encode_queries(TEXTS, 16)
    slow.save(tmp_path)
    quick = OwnEncoder.load(tmp_path)
    assert quick.encode(tokens, batch_size=2) == pytest.approx(encode(slow, tokens), abs=1e-5)
    assert not quick.encode(tokens)[1].any()
    (tmp_path / "again").mkdir()
    quick.save(tmp_path / "again")
    assert np.array_equal(OwnEncoder.load(tmp_path / "again").encode(tokens), quick.encode(tokens))


def test_search_by_hand_waits_for_no_torch():
    """Loading it would take longer than the answer."""
    code = "import sys, pipelines.search.ask; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
