"""Steps of a plan taken on devices of this machine, in a process of its own: the plan as it is, not its small case."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psutil

from conformance.cases.importing import environment
from conformance.cases.plan_file import PlanFile
from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import MOST_DEVICES
from conformance.records.formatting import binary_bytes
from conformance.runner.last_words import last_words

WIDER = 2  # host devices compute in float32 where the chip has bfloat16


class StepsError(ShardproofError, RuntimeError):
    """A plan that did not run here; the message is one sentence."""

    status = 1


def too_large_here(plan: PlanFile) -> str:
    """Why a plan is not run on this machine, the end of a sentence; empty where it is."""
    if plan.devices > MOST_DEVICES["jax"]:
        return f"at most {MOST_DEVICES['jax']} devices are emulated on one machine"
    needed, there = WIDER * plan.devices * plan.predicted.needed_bytes, psutil.virtual_memory().available
    if needed > there:
        return f"its devices would need {binary_bytes(needed)} together, and {binary_bytes(there)} are free here"
    return ""


def steps_here(path: Path, steps: int, timeout: float) -> tuple[float, ...] | None:
    """Seconds of so many steps behind one that compiles; None where the time was up. Raises StepsError."""
    command = [sys.executable, "-P", "-m", "conformance.workers.tune_process", str(path), str(steps)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=environment())
    except subprocess.TimeoutExpired:
        return None
    _, separator, text = done.stdout.rpartition("\x1e")
    if not separator:
        raise StepsError(f"{path.stem} does not run here{last_words(done.stderr, done.returncode)}")
    return tuple(json.loads(text))
