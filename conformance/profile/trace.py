"""The operations of a watched step as a trace that Perfetto and chrome://tracing open: one track for each rank.

Source: Trace Event Format, complete events ("ph": "X"), times in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance.workers.jobs import RankOperation


def write(operations: Sequence[RankOperation], path: Path) -> None:
    """Write the JSON file."""
    ranks = sorted({each.rank for each in operations})
    named: list[dict[str, Any]] = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": rank, "args": {"name": f"rank {rank}"}} for rank in ranks
    ]
    events = [
        {
            "name": each.name,
            "cat": "communication" if each.communicates else "computation",
            "ph": "X",
            "pid": 0,
            "tid": each.rank,
            "ts": round(each.start_seconds * 1e6, 3),
            "dur": round(each.seconds * 1e6, 3),
        }
        for each in operations
    ]
    path.write_text(json.dumps({"traceEvents": [*named, *events], "displayTimeUnit": "ms"}) + "\n", encoding="utf-8")
