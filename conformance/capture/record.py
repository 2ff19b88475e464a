"""`shardproof record`: the single-device script, run once for the truth and several times moved by one rounding."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.capture.orders import Orders
from conformance.capture.recording import FILE, ORACLE, Recording
from conformance.capture.records import RankRecord, read_ranks
from conformance.cases.usage import UsageError
from conformance.contract.errors import ShardproofError

WIDE = "float64"
LAST_LINES = 3


class ScriptFailed(ShardproofError):  # noqa: N818 - a fact about somebody's script
    """The script did not run to its end, or captured nothing; the message is one sentence, and where its output is."""

    status = 1


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Where, what and how: `dtype` None records the script in its own dtype. `said` is told of progress."""

    folder: Path
    command: Sequence[str]
    runs: int
    dtype: str | None
    said: Callable[[str], None]

    def record(self) -> Recording:
        """All runs, then `recording.json`. Raises ScriptFailed where the script does, UsageError for a used folder."""
        started = time.perf_counter()
        self._claim()
        oracle, why = self._oracle()
        own = self.dtype or oracle.given_dtype
        lower = min((what["dtype"] for what in oracle.lower), default=None) if own == WIDE else None
        orders = Orders(dtype=self.dtype, rounding=lower)
        first = 1 if own == oracle.dtype else 0
        members = []
        for number in range(first, first + self.runs - 1):
            members.append(f"member-{number}")
            self.said(f"run {len(members) + 1} of {self.runs}: in {own}, {_how(number)}")
            self._run(members[-1], replace(orders, member=number))
        recording = Recording(
            command=list(self.command),
            oracle=oracle.dtype,
            why=why,
            dtype=own,
            members=members,
            seconds=time.perf_counter() - started,
        )
        recording.write(self.folder)
        return recording

    def _claim(self) -> None:
        if self.runs < 3:
            raise UsageError(f"{self.runs} runs show no rounding: give --runs 3 or more.")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise UsageError(f"'{self.folder}' is not empty: give --output a new folder.")
        self.folder.mkdir(parents=True, exist_ok=True)

    def _oracle(self) -> tuple[RankRecord, str]:
        """In float64; where the script refuses that, in float32 and why."""
        self.said(f"run 1 of {self.runs}: the oracle, in {WIDE}")
        try:
            return self._run(ORACLE, Orders(dtype=WIDE)), ""
        except ScriptFailed as refused:
            why = f"in {WIDE} it fails: {refused}"
            self.said(f"{why} The oracle is float32 instead.")
            return self._run(ORACLE, Orders(dtype="float32")), why.rstrip(".")

    def _run(self, name: str, orders: Orders) -> RankRecord:
        where, log = self.folder / name, self.folder / f"{name}.log"
        environment = os.environ | dict(replace(orders, folder=where.resolve()).environment())
        if orders.dtype == WIDE:
            environment["JAX_ENABLE_X64"] = "1"
        with log.open("wb") as output:
            try:
                ended = subprocess.run(
                    self.command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
                )
            except OSError as wrong:
                raise UsageError(f"Cannot run '{shlex.join(self.command)}': {wrong.strerror}.") from None
        if ended.returncode:
            last = log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
            raise ScriptFailed(f"the script ended with status {ended.returncode} ({' / '.join(last)}; see {log}).")
        if not where.is_dir():
            raise UsageError(
                f"The script captured nothing: put `with conformance.capture(...)` around its steps (see {log})."
            )
        return read_ranks(where)[0]


def _how(number: int) -> str:
    return f"moved by one rounding ({number})" if number else "as it stands"


__all__ = ["FILE", "Recorder", "ScriptFailed"]
