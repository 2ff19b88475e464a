"""`shardproof record`: the single-device script several times, as the oracle and its yardstick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from conformance.capture.record import Recorder
from conformance.cases.case import DTYPES
from conformance.cases.usage import UsageError, choose
from conformance.records.formatting import seconds


def record(command: Sequence[str], *, runs: int, dtype: str | None, output: Path) -> int:
    """The exit status is 1 where the script fails."""
    if not command:
        raise UsageError(
            "Give the single-device command behind --, for example `shardproof record -- python train.py`."
        )
    wanted = None if dtype is None else choose("dtype", dtype, DTYPES)
    recording = Recorder(folder=output, command=command, runs=runs, dtype=wanted, said=_said).record()
    print(
        f"Recorded {runs} runs into {output} in {seconds(recording.seconds)}: the oracle in {recording.oracle}, "
        f"{len(recording.members)} members in {recording.dtype}."
    )
    return 0


def _said(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
