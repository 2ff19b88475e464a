"""Our own planner as a function of three values, as anybody's is judged; predicted, and not compiled."""

from __future__ import annotations

from typing import Any

from conformance.planner.asking import Asked, question
from conformance.planner.search import predicted


def plan(model: str, devices: int, memory: str) -> dict[str, Any] | None:
    """Axis -> size, microbatches, recomputation and schedule; None where nothing fits.

    Raises UsageError for unclear sizes.
    """
    fitting = predicted(question(Asked(model=model, devices=devices, memory=memory)))
    if not fitting:
        return None
    layout = fitting[0].layout
    how = {"microbatches": layout.microbatches, "recompute": layout.recompute, "schedule": layout.schedule}
    return {**dict(layout.mesh.sizes), **how}
