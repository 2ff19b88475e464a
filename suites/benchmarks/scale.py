"""Plans of production size, compiled for a chip: what the compilation costs, and the bytes of a device."""

from __future__ import annotations

from .kept import kept
from .series import LEVELS, MEMORY, NOT_KNOWN, SEVERAL, Shared, tracked

PLANS = ["70b"]


class Plan(Shared):
    """A plan on its mesh for an H100, together with its program small, which must pass."""

    params = (PLANS,)
    param_names = ("plan",)

    def setup(self, plan: str) -> None:
        self.figures = kept("planned", (plan,))

    def track_cpu_seconds(self, plan: str) -> float:
        """Of the process that compiles."""
        return self.figures["cpu_seconds"]

    def track_peak_rss_bytes(self, plan: str) -> float:
        return self.figures["peak_rss_bytes"]


class PlanBytes(Shared):
    """What a device holds and sends in a step; at the level partitioned nothing is known of temporaries."""

    params = (PLANS, LEVELS[1:], [MEMORY, "fsdp", "tensor", SEVERAL])
    param_names = ("plan", "level", "what")

    def setup(self, plan: str, level: str, what: str) -> None:
        self.figures = kept("planned", (plan,))

    def track_bytes(self, plan: str, level: str, what: str) -> float:
        return self.figures.get(f"{level}/{what}", NOT_KNOWN)


tracked(Plan, "cpu_seconds", "CPU seconds")
tracked(Plan, "peak_rss_bytes", "bytes")
tracked(PlanBytes, "bytes", "bytes")
