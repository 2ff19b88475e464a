"""A launch: somebody's command with orders for its captures, its output in a log, and what its ranks have written."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from conformance.capture.orders import Orders
from conformance.capture.records import RankRecord, read_ranks
from conformance.cases.usage import UsageError
from conformance.contract.errors import ShardproofError

WIDE = "float64"
LAST_LINES = 3
FILTERED = "For simplicity, JAX has removed its internal frames"  # stands behind what was raised, under a rule


class LaunchFailed(ShardproofError):  # noqa: N818 - a fact about somebody's script
    """The command did not run to its end; the message is one sentence, and where its output is."""

    status = 1


def launched(command: Sequence[str], folder: Path, orders: Orders) -> list[RankRecord]:
    """Run it; its capture goes to `folder`, its output to a log beside that.

    Raises LaunchFailed where it fails, and UsageError where it cannot be started or has captured nothing.
    """
    log = folder.with_name(f"{folder.name}.log")
    environment = os.environ | dict(replace(orders, folder=folder.resolve()).environment())
    environment["PYTHONUNBUFFERED"] = "1"  # the log has all lines in their order
    if orders.dtype == WIDE:
        environment["JAX_ENABLE_X64"] = "1"
    with log.open("wb") as output:
        try:
            ended = subprocess.run(command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
        except OSError as wrong:
            raise UsageError(f"Cannot run '{shlex.join(command)}': {wrong.strerror}.") from None
    if ended.returncode:
        last = " / ".join(_last_words(log.read_text(errors="replace")))
        raise LaunchFailed(f"'{shlex.join(command)}' ended with status {ended.returncode} ({last}; see {log}).")
    if not folder.is_dir():
        raise UsageError(
            f"'{shlex.join(command)}' captured nothing: put `with conformance.capture(...)` around its steps "
            f"(its output is in {log})."
        )
    return read_ranks(folder)


def _last_words(output: str) -> list[str]:
    """The last lines of what a command has printed, without what JAX says of its own traceback."""
    said = [line for line in output.strip().splitlines() if not line.startswith(FILTERED)]
    while said and not said[-1].strip("- "):
        said.pop()
    return said[-LAST_LINES:]
