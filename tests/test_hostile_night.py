"""Ids, titles and queries that are SQL, templates, markup, formulas or commands go through a whole night as text."""

import csv
import datetime as dt
import html.parser
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from pipelines import contracts, warehouse
from pipelines import night as whole_night
from pipelines.__main__ import app
from pipelines.report import POLICY
from pipelines.run import Run
from tests.conftest import LAST_DAY, SMALL, deliver

pytestmark = pytest.mark.slow
LONG = "long " * 13_000 + "end"
PROGRAMS = [
    "'; drop table items; --",
    '" or 1=1 --',
    "x'); delete from events where ('1'='1",
    "$$; select 1; $$",
    "{{ env_var('HOME') }}",
    "{{ 7*7 }}",
    "{% raw %}",
    "{# a comment",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</code></td></table><h1>",
    "&lt;b&gt; &amp;",
    "javascript:alert(1)",
    '=HYPERLINK("http://x","y")',
    "+1",
    "@SUM(A1)",
    "-2+3",
    "%s %n %d {0} {run_id}",
    "${HOME}",
    "../../etc/passwd",
    "/etc/passwd",
    "-rf",
    "--help",
    "CON",
    "[bold red]x[/]",
    "[/]",
    "[link=http://x]y[/link]",
    "*?[a-z]{a,b}",
    "a\\b\\",
    "'\"`",
    "😀👩‍👩‍👧",
    "safe\u202egpj.exe",
    "a\u200db\u200cc",
    "e\u0301 Å İI ß",
    "null",
    "NaN",
    "None",
    "true",
    "1e309",
    "[UNK] [CLS] <s> <|endoftext|>",
    "\x1b[2J\x1b]0;owned\x07",
    "two\nlines\tand\r\nmore",
    "a\u00a0b\u2003c",
    LONG,
]


def texts(canary: Path) -> list[str]:
    """All of them, and commands that would leave a file."""
    return [*PROGRAMS, f"$(touch {canary})", f"`touch {canary}`", f"; touch {canary} #", f"| touch {canary}"]


def events(words: list[str]) -> Iterator[dict[str, object]]:
    """Each user searches with each text in turn, finds two items and buys one, day after day."""
    for n, user in enumerate(words):
        for turn in range(4):
            item, word = words[(n + turn) % len(words)], words[(n * 3 + turn) % len(words)]
            at = (dt.datetime(2026, 3, 1, 10) - dt.timedelta(days=turn * 9, minutes=n)).isoformat() + "Z"
            visit = {"user_id": user, "session_id": f"{word}{turn}", "occurred_at": at}
            yield {**visit, "event_type": "search", "query": word}
            yield {**visit, "event_type": "view", "item_id": item, "query": word}
            yield {**visit, "event_type": "purchase", "item_id": item, "order_id": f"{word}{n}{turn}"}


def lay_out(home: Path, words: list[str]) -> None:
    """Items as CSV, users and events as JSON lines, and of each kind of text an event that breaks a rule."""
    path = deliver(home, "items", str(LAST_DAY), [], "part.csv")
    with path.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["item_id", "title", "description", "category", "brand", "price_cents"])
        rows.writerows([word, word, word * (word != LONG), word, word, 100 + n] for n, word in enumerate(words))
    deliver(home, "users", str(LAST_DAY), [{"user_id": word, "country": word} for word in words])
    broken = [{"user_id": w, "item_id": w, "event_type": "view", "occurred_at": w, "event_id": w} for w in words]
    deliver(home, "events", str(LAST_DAY), [*events(words), *broken, *words[:-7]])


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return texts(tmp_path_factory.mktemp("canary") / "it-ran")


@pytest.fixture(scope="module")
def run(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("home")
    lay_out(home, words)
    changes = {"shop.name": "<script>alert(1)</script>{{ 7*7 }}", "gates.min_against_popularity": 0}
    return whole_night.run(day=LAST_DAY, overrides=SMALL | changes, home=home)


@pytest.fixture
def column(run: Run) -> Callable[[str], set]:
    def read(query: str) -> set:
        with warehouse.connect(run.home) as release:
            return {row if len(row) > 1 else row[0] for row in release.execute(query).fetchall()}

    return read


def test_every_text_arrives_as_it_was_written(words: list[str], column: Callable[[str], set]):
    """Byte for byte in each published table that shows it."""
    every = set(words)
    assert column("select item_id, title, category, brand from items") == {(w, w, w, w) for w in words}
    assert column("select item_id, title, description from item_history") == {
        (w, w, w if w != LONG else None) for w in words
    }
    assert column("select distinct user_id from user_recommendations") == every
    assert column("select distinct item_id from user_recommendations") <= every
    assert column("select distinct segment from popular_items") == {"all", *words}


def test_queries_are_folded_and_nothing_else(run: Run, words: list[str], column: Callable[[str], set]):
    """Lower case and single spaces, as the contract says; those of the settings are answered besides."""
    folded = "select trim(regexp_replace(lower(unnest(?)), '\\s+', ' ', 'g'))"
    typed = {query for (query,) in duckdb.execute(folded, [words]).fetchall()}
    assert column("select distinct query from search_results") == typed | set(run.settings.search.queries)


def test_nothing_ran(run: Run, words: list[str], column: Callable[[str], set]):
    """No command left its file, and no table is gone."""
    canary = Path(words[-1].split()[-1])
    assert canary.parent.is_dir()
    assert list(canary.parent.iterdir()) == []
    assert column("select table_name from information_schema.tables") == set(contracts.tables("serving"))
    assert column("select count(*) from quality_checks where not is_ok") == {0}


class Page(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text: list[str] = []
        self.policies: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if ("http-equiv", "Content-Security-Policy") in attrs:
            self.policies.append(dict(attrs)["content"])

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_report_shows_markup_as_text(run: Run):
    """The tags are those of the page alone, no attribute runs anything, and the policy forbids the rest."""
    page = Page(run.of("report", "report.html").read_text())
    own = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "strong", "code", "em", "span"}
    assert page.tags <= own | {"table", "tr", "th", "td"}
    assert page.attributes <= {"lang", "charset", "http-equiv", "content", "class", "colspan"}
    assert page.policies == [POLICY]
    assert any("<script>alert(1)</script>{{ 7*7 }}" in text for text in page.text)


def told(home: Path, *arguments: str) -> str:
    """What a command prints; nothing of it may act on a terminal."""
    environment = {"COLUMNS": "5000", "NIGHTSHELF_HOME": str(home)}
    result = CliRunner(env=environment).invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert all(c.isprintable() or c == "\n" for c in result.output)
    return result.output


def test_the_command_line_shows_markup_as_text(run: Run):
    """Brackets stand as they are, and what would act on a terminal is spelled out."""
    for word in (word for word in PROGRAMS[:-1] if "[" in word or "'" in word or not word.isprintable()):
        assert "from user_recommendations" in told(run.home, "show", "user", "--", word)
        assert "from search_results" in told(run.home, "show", "query", "--", word)
    assert "[bold red]x[/]" in told(run.home, "show", "user", "--", "[bold red]x[/]")
    assert "chr(27) || '[2J'" in told(run.home, "show", "user", "--", "\x1b[2J\x1b]0;owned\x07")
    for arguments in (["show", "demo"], ["status"], ["quarantine", "list"], ["check"]):
        told(run.home, *arguments)
    assert "safe\\u202egpj.exe" in told(run.home, "quarantine", "show", "--limit", "200")


def test_rejected_rows_come_back_as_they_were_written(run: Run, words: list[str], tmp_path: Path):
    """What is written for correction says what the shop said."""
    target = tmp_path / "rows.jsonl"
    told(run.home, "quarantine", "show", "--rule", "unreadable_occurred_at", "--to", str(target))
    assert {json.loads(line)["item_id"] for line in target.read_text().splitlines()} == set(words)


def test_a_reason_is_text_too(tmp_path: Path):
    """What somebody gave as a reason for going back does nothing when it is listed."""
    record = {"at": "2026-03-01T10:00", "action": "rollback", "release": "a", "replaced": None, "why": "[/] \x1b[2J"}
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse" / "releases.jsonl").write_text(json.dumps(record) + "\n")
    assert "[/] \\x1b[2J" in told(tmp_path, "status")
