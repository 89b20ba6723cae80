"""The docs tell what is there: reference pages are current, and every verb, stage and table stands in them."""

import re
from pathlib import Path

import pytest
import typer.main

from pipelines import contracts, reference
from pipelines.__main__ import app
from pipelines.night import STAGES

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


@pytest.mark.parametrize("page", reference.pages(), ids=lambda path: path.name)
def test_reference_pages_are_current(page: Path):
    """`make docs` would change nothing."""
    assert page.read_text() == reference.pages()[page]


@pytest.mark.parametrize("verb", typer.main.get_command(app).commands)
def test_every_verb_stands_in_the_runbook(verb: str):
    """The person on call finds each verb."""
    assert f"nightshelf {verb}" in RUNBOOK


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_section_in_the_runbook(stage: str):
    """What a failure of each stage means is written down."""
    assert f"`{stage}`" in RUNBOOK


@pytest.mark.parametrize("table", contracts.tables("serving"))
def test_every_published_table_stands_in_the_readme(table: str):
    """A newcomer sees what there is to read."""
    assert f"`{table}`" in README


@pytest.mark.parametrize("target", re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
def test_every_make_target_stands_in_the_readme(target: str):
    """One make word per daily act, each named."""
    assert f"make {target}" in README


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_links_lead_somewhere(page: Path):
    """Each relative link names a file that exists."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []
