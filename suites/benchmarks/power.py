"""What the suites do not catch, and what is said of it, as results/power has it at a commit."""

from __future__ import annotations

import json

from .kept import published
from .series import NOT_KNOWN, tracked

SUITES = ["collectives", "data", "hybrid", "memory", "moe", "pipeline", "sequence", "tensor"]


class Power:
    params = (SUITES,)
    param_names = ("suite",)

    def setup(self, suite: str) -> None:
        self.totals = json.loads(published("power/power.json"))["suites"][suite]

    def track_lost_power(self, suite: str) -> float:
        """1 - power: the share of planted bugs that survive."""
        return 1 - self.totals["killed"] / self.totals["planted"]

    def track_false_alarms(self, suite: str) -> float:
        """Share of right programs that are flagged."""
        return self._share("false_alarms", "controls")

    def track_axis_not_named(self, suite: str) -> float:
        """Of bugs whose axis is known; wrong or unsaid."""
        return 1 - self._share("right_axes", "diagnosed")

    def track_cause_not_named(self, suite: str) -> float:
        """Of bugs whose cause is known; wrong or unsaid."""
        return 1 - self._share("right_causes", "explained")

    def _share(self, part: str, whole: str) -> float:
        return self.totals[part] / self.totals[whole] if self.totals[whole] else NOT_KNOWN


tracked(Power, "lost_power", "1 - power")
tracked(Power, "false_alarms", "share")
tracked(Power, "axis_not_named", "share")
tracked(Power, "cause_not_named", "share")
