"""The answers of a script of kinds, which runs in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

KINDS = Path(__file__).parent / "kinds"
NONE = {"verdict": "not judged", "text": "the process ended before"}


def answers(script: str, kinds: Sequence[str], timeout: float) -> dict[str, dict[str, str]]:
    """Kind -> its answer. All kinds share the workers of the process."""
    command = [sys.executable, str(KINDS / script), *dict.fromkeys(kinds)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    lines = done.stdout.split("\n")  # `splitlines` would break at the mark too
    parsed = [json.loads(line.split("\x1e")[1]) for line in lines if "\x1e" in line]
    return {answer["kind"]: answer for answer in parsed}
