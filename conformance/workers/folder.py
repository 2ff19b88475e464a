"""The folder of a pool of workers, and what else it must not leave behind: processes that its workers have started.

Every worker finds the folder's path in its environment, which whatever it starts inherits, however it is detached. A
lock that the kernel frees tells a folder in use from one whose owner was killed: the next pool removes those.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from conformance.cases.usage import UsageError

_LOG = logging.getLogger("shardproof.workers")

PREFIX = "shardproof-workers-"
VARIABLE = "SHARDPROOF_WORKERS"
LOCK = "in-use"
ENDING_SECONDS = 2.0
ROUNDS = 3  # one may start another while the first are ended


class WorkFolder:
    """A locked temporary folder. `remove` ends every process that was started from it and deletes it."""

    def __init__(self) -> None:
        remove_abandoned()
        try:
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
            self._lock = _locked(self.path)
        except OSError as wrong:
            raise UsageError(f"No folder for temporary files can be made: {wrong.strerror or wrong}.") from None

    def environment(self) -> dict[str, str]:
        """What a worker's environment must have."""
        return {VARIABLE: str(self.path)}

    def remove(self) -> None:
        end_processes(self.path)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def shared_parent() -> str | None:
    """Where a worker makes temporary folders: in that of its pool, which goes in any case. None outside workers."""
    return os.environ.get(VARIABLE)


def remove_abandoned() -> None:
    """Remove the folders of pools that were killed, and end what their workers have started."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if folder.stat().st_uid == os.getuid() and (lock := _abandoned(folder)) is not None:
                end_processes(folder)
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
        except OSError:
            _LOG.debug("'%s' is left where it is.", folder, exc_info=True)


def _locked(folder: Path) -> int:
    """Locked before it has its name, so that nobody finds it unlocked."""
    lock = os.open(folder / f"{LOCK}.new", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    os.rename(folder / f"{LOCK}.new", folder / LOCK)
    return lock


def _abandoned(folder: Path) -> int | None:
    """Its lock, if nobody holds it; None for a folder in use, or one that is just being made."""
    try:
        lock = os.open(folder / LOCK, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def end_processes(folder: Path) -> None:
    """End every process that was started by a worker of this folder, and by what it had started."""
    for _ in range(ROUNDS):
        if not _ended([process for process in _others() if _is_from(process, folder)]):
            return


def end_orphans(folder: Path) -> None:
    """End what workers of this folder have started and left behind: it no longer descends from this process."""
    own = {process.pid for process in _descendants({os.getpid()})}
    _ended([process for process in _others() if process.pid not in own and _is_from(process, folder)])


def end_descendants(pids: Collection[int]) -> None:
    """End whatever these processes have started, not them."""
    _ended(_descendants(set(pids)))


def _ended(processes: Sequence[psutil.Process]) -> bool:
    """Kill them and wait; whether there were any."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    if processes:
        psutil.wait_procs(processes, timeout=ENDING_SECONDS)
    return bool(processes)


def _others() -> Iterator[psutil.Process]:
    return (process for process in psutil.process_iter() if process.pid != os.getpid())


def _is_from(process: psutil.Process, folder: Path) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get(VARIABLE) == str(folder))
    except (psutil.Error, OSError):  # gone, or somebody else's
        return False


def _descendants(pids: set[int]) -> list[psutil.Process]:
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            children.setdefault(process.ppid(), []).append(process)
    descendants: list[psutil.Process] = []
    queue = [child for pid in pids for child in children.get(pid, ())]
    while queue:
        descendants.append(queue.pop())
        queue += children.get(descendants[-1].pid, ())
    return [process for process in descendants if process.pid not in pids]
