"""`shardproof record`: the single-device script, run once for the oracle and several times moved by one rounding."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conformance.capture.launch import WIDE, LaunchFailed, launched
from conformance.capture.orders import Orders
from conformance.capture.recording import ORACLE, Recording
from conformance.capture.records import RankRecord
from conformance.cases.usage import UsageError


@dataclass(frozen=True, kw_only=True)
class Recorder:
    """Where, what and how: `dtype` None records the script in its own dtype. `said` is told of progress."""

    folder: Path
    command: Sequence[str]
    runs: int
    dtype: str | None
    said: Callable[[str], None]

    def record(self) -> Recording:
        """All runs, then `recording.json`. Raises LaunchFailed where the script does, UsageError for a used folder."""
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
        except LaunchFailed as refused:
            why = f"in {WIDE} it fails: {refused}"
            self.said(f"{why} The oracle is float32 instead.")
            return self._run(ORACLE, Orders(dtype="float32")), why.rstrip(".")

    def _run(self, name: str, orders: Orders) -> RankRecord:
        return launched(self.command, self.folder / name, orders)[0]


def _how(number: int) -> str:
    return f"moved by one rounding ({number})" if number else "as it stands"
