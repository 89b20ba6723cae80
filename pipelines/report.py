"""Report: one page, without anything loaded from elsewhere, that tells how the night went, also when it stopped."""

import json
import shutil
from pathlib import Path

import jinja2
import pandas as pd

from pipelines import night, warehouse
from pipelines.run import Run, costs, stage

FILE = "report.html"
COMPARED = ("fused", "rrf", "habit", "popularity")
LOSS = "loss_without_"
MEASURES = ("recall_at_10", "ndcg_at_10", "coverage_at_10")
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
    done = costs(told)
    checks = _parquet(told, "validate", "quality_checks.parquet") or _json(told, "admit", "checks.json") or []
    figures = _json(told, "fuse", "metrics.json") or []
    failed = [check for check in checks if not check["is_ok"]]
    return {
        "stages": [(name, done.get(name)) for name in night.STAGES],
        "release": _json(told, "publish", "release.json") or {},
        "current": warehouse.current(told.home, told.settings),
        "failed": failed,
        "count_stopping": sum(check["level"] == "stop" and check["override"] is None for check in failed),
        "count_checks": len(checks),
        "quality": _quality(figures),
        "slices": _slices(figures),
        "compared": COMPARED,
        "losses": _losses(figures),
        "chosen": _json(told, "fuse", "fusion.json") or {},
        "measures": MEASURES,
        "search": _json(told, "search", "metrics.json") or [],
        "rejected": _rejected(_json(told, "clean", "books.json") or []),
        "gates": [c for c in checks if c["table_name"] == "night"],
        "input": [c for c in checks if c["table_name"] == "input"],
    }


def _quality(records: list[dict]) -> list[tuple[str, str, list[dict | None]]]:
    """(placement, ranking, one figure per measure)."""
    by_name = {record["metric"]: record for record in records}
    pairs = dict.fromkeys(tuple(name.split("/")[:2]) for name in by_name if LOSS not in name)
    return [(p, s, [by_name.get(f"{p}/{s}/{m}") for m in MEASURES]) for p, s in pairs]


def _slices(records: list[dict]) -> list[tuple[str, str, list[dict | None]]]:
    """(placement, part of the shop, NDCG@10 of each of the rankings that are compared there)."""
    by_name = {record["metric"]: record for record in records}
    told = [name.split("/") for name in by_name if name.count("/") == 3]
    pairs = dict.fromkeys((placement, part) for placement, _, _, part in told)
    return [(p, s, [by_name.get(f"{p}/{name}/ndcg_at_10/{s}") for name in COMPARED]) for p, s in pairs]


def _losses(records: list[dict]) -> list[tuple[str, str, dict]]:
    """(placement, what is taken out, the loss)."""
    told = [(record["metric"].split("/"), record) for record in records if LOSS in record["metric"]]
    return [(path[0], path[1].removeprefix(LOSS), record) for path, record in told]


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
