"""Finished steps: what a process keeps, in a file, of the case that it runs, for a case that does not come to its end.

An exception could carry the evidence of the steps before it; a process that is ended by a signal, or waits for ever,
cannot. The file lies in the folder of the pool and goes with it.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from conformance.evidence.evidence import Evidence
from conformance.workers.fleet import united
from conformance.workers.folder import shared_parent
from conformance.workers.observe import Unreadable


class FinishedSteps:
    """The file of one process. `keep` puts the new content in place of the old at once, so that it is always whole."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._file = folder / f"{pid}.steps"

    @classmethod
    def of_this_process(cls) -> FinishedSteps:
        """That of a worker in the folder of its pool; elsewhere in that for temporary files."""
        return cls(Path(shared_parent() or tempfile.gettempdir()), os.getpid())

    def forget(self) -> None:
        self._file.unlink(missing_ok=True)

    def keep(self, evidence: Evidence) -> None:
        """What cannot be kept (a full disk) costs nothing but the kept steps."""
        new = self._file.with_suffix(".new")
        with suppress(OSError):
            new.write_bytes(pickle.dumps(evidence, protocol=pickle.HIGHEST_PROTOCOL))
            new.replace(self._file)

    def read(self) -> Evidence | None:
        with suppress(OSError, EOFError, pickle.UnpicklingError):
            kept: Evidence = pickle.loads(self._file.read_bytes())
            return kept
        return None


def finished_by_all(folder: Path, pids: Sequence[int]) -> Evidence | None:
    """The steps that every process of a case has finished; None where there is none."""
    kept = [FinishedSteps(folder, pid).read() for pid in pids]
    parts = [part for part in kept if part is not None]
    steps = min((len(part.steps) for part in parts), default=0)
    if not steps or len(parts) < len(kept):
        return None
    with suppress(Unreadable):
        return replace(united([replace(part, steps=part.steps[:steps]) for part in parts]), broke_off=True)
    return None
