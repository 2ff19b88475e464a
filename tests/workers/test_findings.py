"""What stands in results/findings is so with these versions; where it no longer is, it can go, with its refusals."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FINDINGS = Path(__file__).parents[2] / "results" / "findings"
SAID = {
    "torch-devicemesh-permuted": ["mesh [0, 1]: group [0, 1], gathered [0.0, 1.0, 2.0, 3.0]",
                                  "mesh [1, 0]: group [0, 1], gathered [2.0, 3.0, 0.0, 1.0]"],
    "torch-dtensor-same-numbers": ["normal_:", "dropout:", "equal: True"],
    "torch-dtensor-item-of-pending-sum": ["rank 0: placements (Partial(sum),), item 1.0",
                                          "rank 1: placements (Partial(sum),), item 5.0"],
    "torch-pipelining-uneven-microbatches": ["8 rows in 6 microbatches: 12 rows, returned [4.0, 8.0, "],
    "torch-pipelining-zero-bubble-skip": ["one device: gradient 0.192537",
                                          "ScheduleInterleaved1F1B: gradient 0.192537",
                                          "ScheduleInterleavedZeroBubble: Trying to use a saved tensor that has been"],
    "jax-distributed-lost-peer": ["rank 0 catches ValueError: UNKNOWN: Gloo all-reduce failed",
                                  "rank 0: SIGABRT; it caught an error before: True"],
    "xla-cpu-manual-axis-of-one": ["data=2, tensor=2: [6.0, 22.0, 38.0, 54.0], one device [6.0, 22.0, 38.0, 54.0]",
                                   "data=2, tensor=1: INTERNAL: RET_CHECK failure"],
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_a_finding_comes_out_as_it_is_told(name: str) -> None:
    command = [sys.executable, str(FINDINGS / name / "reproduce.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    assert all(words in done.stdout for words in SAID[name]), done.stdout
    assert "equal: False" not in done.stdout
