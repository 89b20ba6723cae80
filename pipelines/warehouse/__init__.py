"""The warehouse: what a run publishes, table by table, and where its releases live."""

from pipelines.warehouse.derived import derive
from pipelines.warehouse.manifest import doubts, judged, seal
from pipelines.warehouse.releases import (
    barred,
    connect,
    current,
    day_of,
    history,
    names,
    of,
    predecessor,
    publish,
    rollback,
    seen_before,
)
from pipelines.warehouse.tables import (
    broken,
    delivered_rows,
    frame,
    parts,
    receipts,
    relation,
    returns,
    write,
    write_arrivals,
    write_metrics,
    write_runs,
)

__all__ = [
    "barred",
    "broken",
    "connect",
    "current",
    "day_of",
    "delivered_rows",
    "derive",
    "doubts",
    "frame",
    "history",
    "judged",
    "names",
    "of",
    "parts",
    "predecessor",
    "publish",
    "receipts",
    "relation",
    "returns",
    "rollback",
    "seal",
    "seen_before",
    "write",
    "write_arrivals",
    "write_metrics",
    "write_runs",
]
