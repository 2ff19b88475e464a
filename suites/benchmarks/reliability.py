"""What happens when things break, as results/reliability has it at a commit."""

from __future__ import annotations

import json
from statistics import median

from .kept import published
from .series import NOT_KNOWN, tracked


class Injuries:
    params = (["jax", "torch", "main", "records"],)
    param_names = ("where",)

    def setup(self, where: str) -> None:
        rows = json.loads(published("reliability/reliability.json"))
        self.rows = [row for row in rows if row["where"] == where]

    def track_misjudged(self, where: str) -> float:
        """Share of injuries out of which something else came than must."""
        return sum(row["must"] not in row["came"] for row in self.rows) / len(self.rows)

    def track_records_lost(self, where: str) -> float:
        return sum(row["lost"] for row in self.rows)

    def track_processes_left(self, where: str) -> float:
        return sum(row["left"] for row in self.rows)

    def track_next_case_seconds(self, where: str) -> float:
        """Median until the next case has its verdict."""
        seconds = [row["next_seconds"] for row in self.rows if row["next_seconds"] is not None]
        return median(seconds) if seconds else NOT_KNOWN


tracked(Injuries, "misjudged", "share")
tracked(Injuries, "records_lost", "records")
tracked(Injuries, "processes_left", "processes")
tracked(Injuries, "next_case_seconds", "seconds")
