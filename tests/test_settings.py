"""Settings come from the file, then the environment, then the run; a wrong one is named."""

from pathlib import Path

import pytest

from pipelines import settings
from pipelines.errors import BadSetting


def test_later_places_win(tmp_path: Path):
    """The file beats the default, the environment beats the file, the run's parameters beat both."""
    (tmp_path / "nightshelf.toml").write_text("[als]\nfactors = 8\nepochs = 3\nalpha = 2.0\n")
    environment = {"NIGHTSHELF_ALS__EPOCHS": "4", "NIGHTSHELF_ALS__ALPHA": "3"}
    loaded = settings.load(tmp_path, {"als.alpha": 4}, environment)
    assert (loaded.als.factors, loaded.als.epochs, loaded.als.alpha) == (8, 4, 4.0)
    assert loaded.als.regularization == settings.Als().regularization


def test_a_list_can_be_told_as_text(tmp_path: Path):
    """The environment and `--set` bring text; commas part it."""
    environment = {"NIGHTSHELF_BOTS__ALLOW": "anna, s 1"}
    loaded = settings.load(tmp_path, {"clean.event_key": "user_id,item_id"}, environment)
    assert (loaded.bots.allow, loaded.clean.event_key) == (["anna", "s 1"], ["user_id", "item_id"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"als.factrs": 8}, "als.factrs is no setting. Did you mean als.factors?"),
        ({"als.factors": 0}, "als.factors = 0: Input should be greater than or equal to 1"),
        ({"shop.timezone": "Mars"}, "'Mars' is no IANA time zone"),
        ({"seed.value": 3}, "seed"),
        ({"files.events.encoding": "latin-99"}, "'latin-99' is no encoding"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, overrides: dict, message: str):
    """The message names the setting and what to write instead."""
    with pytest.raises(BadSetting, match=message.replace("(", r"\(")):
        settings.load(tmp_path, overrides, {})


def test_an_environment_variable_that_sets_nothing_is_an_error(tmp_path: Path):
    """A misspelt NIGHTSHELF_ variable must not be passed over in silence."""
    with pytest.raises(BadSetting, match=r"als\.factrs"):
        settings.load(tmp_path, {}, {"NIGHTSHELF_ALS__FACTRS": "8"})


def test_a_broken_file_is_named(tmp_path: Path):
    """Invalid TOML tells the file and the line."""
    (tmp_path / "nightshelf.toml").write_text("[als\n")
    with pytest.raises(BadSetting, match=r"nightshelf.toml is not valid TOML.*line 1"):
        settings.load(tmp_path, {}, {})


def test_a_named_file_must_exist(tmp_path: Path):
    """NIGHTSHELF_CONFIG that leads nowhere is an error, not a default."""
    with pytest.raises(BadSetting, match="NIGHTSHELF_CONFIG"):
        settings.load(tmp_path, {}, {"NIGHTSHELF_CONFIG": str(tmp_path / "none.toml")})


def test_every_setting_says_what_it_means():
    """No setting stands without a description."""
    assert [name for name, (_, meaning) in settings.names().items() if not meaning] == []
