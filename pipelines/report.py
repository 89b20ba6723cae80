"""Report: one page, without anything loaded from elsewhere, that tells how the night went, also when it stopped."""

import json
import shutil
from pathlib import Path

import jinja2
import pandas as pd

from pipelines import night, warehouse
from pipelines.costs import costs
from pipelines.reasons import REASONS
from pipelines.run import Run, stage

FILE = "report.html"
COMPARED = ("fused", "rrf", "habit", "popularity")
LOSS = "loss_without_"
CHANGE = "change_by_"
MEASURES = {
    "ndcg_at_10": "NDCG@10",
    "recall_at_10": "Recall@10",
    "coverage_at_10": "Coverage@10",
}
UNMEASURED = "nothing to measure"
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def run(run: Run) -> None:
    """Write the page, anew when another stage has finished since."""
    finished = {path.parent.name: path.stat().st_mtime_ns for path in run.folder.glob("*/stage.json")}
    if finished and max(finished, key=finished.__getitem__) != "report":
        shutil.rmtree(run.folder / "report", ignore_errors=True)
    write(run)


@stage
def write(run: Run, folder: Path) -> None:
    template = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(
        Path(__file__).with_name("report.html.j2").read_text()
    )
    (folder / FILE).write_text(template.render(policy=POLICY, run=run, **_content(run)))


def _content(told: Run) -> dict[str, object]:
    done = costs(told.folder)
    checks = _parquet(told, "validate", "quality_checks.parquet") or _json(told, "admit", "checks.json") or []
    figures = _json(told, "fuse", "metrics.json") or []
    fusion = _json(told, "fuse", "fusion.json") or {}
    chosen = {placement: fusion[placement] for placement in told.settings.shelves if placement in fusion}
    failed = [check for check in checks if not check["is_ok"]]
    return {
        "stages": [(name, done.get(name)) for name in night.STAGES],
        "release": _json(told, "publish", "release.json") or {},
        "current": warehouse.current(told.home, told.settings),
        "trained": _json(told, "train_als", "model.json") or {},
        "failed": failed,
        "count_stopping": sum(check["level"] == "stop" and check["override"] is None for check in failed),
        "count_asking": sum(check["level"] == "ask" for check in failed),
        "count_checks": len(checks),
        "quality": {placement: _quality(figures, placement, name) for placement, name in chosen.items()},
        "slices": {placement: _slices(figures, placement) for placement in chosen},
        "losses": {placement: _losses(figures, placement) for placement in chosen},
        "measures": MEASURES,
        "reasons": _reasons(told),
        "unmeasured": UNMEASURED,
        "shelves": _shelves(figures, _json(told, "shelve", "metrics.json") or []),
        "changes": _changes(_json(told, "shelve", "metrics.json") or []),
        "rules": _parquet(told, "validate", "rules.parquet"),
        "effects": [
            one for one in _parquet(told, "validate", "rule_effects.parquet") if one["count_rows"] or one["count_moved"]
        ],
        "search": _json(told, "search", "metrics.json") or [],
        "rejected": _rejected(_json(told, "clean", "books.json") or []),
        "gates": [c for c in checks if c["table_name"] == "night"],
        "tables": _tables(checks),
        "input": _input([c for c in checks if c["table_name"] == "input"]),
    }


def _quality(records: list[dict], placement: str, published: str) -> list[tuple[str, bool, list[dict | None]]]:
    """(ranking, whether it is published, one figure per measure), best first; `fused` is the published one again."""
    by_name = {record["metric"]: record for record in records}
    names = [name.split("/") for name in by_name if name.startswith(f"{placement}/") and name.endswith("/ndcg_at_10")]
    rankings = [name for _, name, _ in names if name != "fused" and not name.startswith(LOSS)]
    rankings.sort(key=lambda name: -by_name[f"{placement}/{name}/ndcg_at_10"]["value"])
    return [(s, s == published, [by_name.get(f"{placement}/{s}/{m}") for m in MEASURES]) for s in rankings]


def _slices(records: list[dict], placement: str) -> dict[str, dict[str, dict]]:
    """By part of the shop, NDCG@10 of each ranking that is compared there."""
    found: dict[str, dict[str, dict]] = {}
    for record in records:
        path = record["metric"].split("/", 3)
        if path[0] == placement and len(path) == 4 and path[1] in COMPARED:
            found.setdefault(path[3].replace("_", " "), {})[path[1]] = record
    return found


def _losses(records: list[dict], placement: str) -> list[tuple[str, dict]]:
    """(what is taken out, the loss), the largest first."""
    head = f"{placement}/{LOSS}"
    told = [(r["metric"].removeprefix(head).split("/")[0], r) for r in records if r["metric"].startswith(head)]
    return sorted(told, key=lambda one: -one[1]["value"])


def _shelves(figures: list[dict], built: list[dict]) -> dict[str, dict[str, dict[str, float]]]:
    """By placement and measure of built lists, the figure of each that has one: `fused`, `shelf`, `loss_by_shelf`."""
    by_name = {record["metric"]: record["value"] for record in [*figures, *built]}
    found: dict[str, dict[str, dict[str, float]]] = {}
    compared = ("fused", "shelf", "loss_by_shelf")
    for record in built:
        placement, told_of, measure = record["metric"].split("/")
        if told_of not in compared:
            continue
        names = {name: f"{placement}/{name}/{measure}" for name in compared}
        told = {name: by_name[metric] for name, metric in names.items() if metric in by_name}
        found.setdefault(placement, {})[measure] = told
    return found


def _changes(built: list[dict]) -> dict[str, dict[str, dict[str, dict]]]:
    """By placement, part of the list builder that is on, and measure, what the part changes."""
    found: dict[str, dict[str, dict[str, dict]]] = {}
    for record in built:
        placement, told_of, measure = record["metric"].split("/")
        if told_of.startswith(CHANGE):
            found.setdefault(placement, {}).setdefault(told_of.removeprefix(CHANGE), {})[measure] = record
    return found


def _reasons(told: Run) -> dict[str, dict[str, float]]:
    """By reason, its share of the rows of each placement."""
    path = told.folder / "shelve" / "user_recommendations.parquet"
    if not path.exists():
        return {}
    rows = pd.read_parquet(path, columns=["placement", "reason"])
    shares = rows.groupby("placement")["reason"].value_counts(normalize=True).to_dict()
    placements = [placement for placement in told.settings.shelves if placement in set(rows["placement"])]
    codes = [code for code in REASONS if code in set(rows["reason"])]
    return {code: {placement: shares.get((placement, code), 0.0) for placement in placements} for code in codes}


def _tables(checks: list[dict]) -> dict[str, tuple[int, int]]:
    """By published table, how many checks hold it against its contract, and how many of them it breaks."""
    told: dict[str, list[bool]] = {}
    for one in checks:
        if one["table_name"] not in ("night", "input"):
            told.setdefault(one["table_name"], []).append(one["is_ok"])
    return {name: (len(told[name]), told[name].count(False)) for name in sorted(told)}


def _input(checks: list[dict]) -> list[dict]:
    """One line per measure, with the bound of each level that it has."""
    found: dict[str, dict] = {}
    for one in checks:
        line = found.setdefault(one["check_name"], {"observed": one["observed"], "is_ok": True})
        line |= {one["level"]: one["expected"], "is_ok": line["is_ok"] and one["is_ok"]}
    return [{"check_name": name, **line} for name, line in found.items()]


def _rejected(books: list[dict]) -> list[dict]:
    if not books:
        return []
    totals = (
        pd.DataFrame(books)
        .groupby(["table_name", "rule"], as_index=False)
        .agg(count_rows=("count_rows", "sum"), example=("example", "first"))
    )
    return totals.to_dict("records")


def _json(told: Run, stage_: str, name: str):
    path = told.folder / stage_ / name
    return json.loads(path.read_text()) if path.exists() else None


def _parquet(told: Run, stage_: str, name: str) -> list[dict]:
    path = told.folder / stage_ / name
    return pd.read_parquet(path).to_dict("records") if path.exists() else []
