"""The folder of results of a command that was told none: one by the time."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from conformance.records.recorder import RESULTS


def fresh() -> Path:
    """A name that is free."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    names = [stamp, *(f"{stamp}-{i}" for i in range(2, 100))]
    return next(RESULTS / name for name in names if not (RESULTS / name).exists())
