"""How ranks start: who looks for accelerators, and what is said of one that does not come up."""

from __future__ import annotations

import subprocess
import sys

from conformance.workers.worker_group import _raised

ASKS = """
import os
from conformance.workers.torch_server import _asked_elsewhere
print(os.getpid(), _asked_elsewhere(lambda: str(os.getpid())), repr(_asked_elsewhere(lambda: str(1 / 0))))
"""


def test_accelerators_are_looked_for_in_another_process() -> None:
    """CUDA that a fork server has started cannot be used by the ranks that it forks."""
    said = subprocess.run([sys.executable, "-c", ASKS], capture_output=True, text=True, check=True).stdout
    server, asked, failed = said.split()
    assert server != asked
    assert failed == "''", "a process that fails says nothing"


def test_what_ended_a_process_is_said_with_its_exit_status() -> None:
    log = (
        "a line\nTraceback (most recent call last):\n  File 'x.py', line 1, in take\n    set_device(3)\n"
        "torch.AcceleratorError: CUDA error: invalid device ordinal\nGPU device may be out of range.\n"
    )
    assert _raised(log) == ": torch.AcceleratorError: CUDA error: invalid device ordinal"
    assert _raised("a word, and no traceback\n") == ""
