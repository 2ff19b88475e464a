"""Values inside a step, as a traced program shows them, for tests of what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from conformance.evidence.intermediates import Intermediate


def at(number: int, operation: str, blocks: Mapping[int, np.ndarray], *sources: int, **more: object) -> Intermediate:
    """What an operation makes on each rank, on the line of its number, in the forward pass unless `more` says else."""
    made = Intermediate(
        number=number, operation=operation, place=f"model.py:{number}", phase="forward", sources=sources, values=blocks
    )
    return replace(made, **more)  # type: ignore[arg-type]
