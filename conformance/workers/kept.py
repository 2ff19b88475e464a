"""Kept workers: started by the first `conformance.check` of a process, used by the others, ended with the process."""

from __future__ import annotations

import atexit
import os
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conformance.workers.pool import Workers

_OURS = str(Path(__file__).resolve().parents[1])
_UNCHANGING = tuple({_OURS, *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))})
_VOLATILE = "PYTEST_CURRENT_TEST"  # another one in every test
Files = dict[str, tuple[int, int]]


@dataclass
class Kept:
    """Workers, what they were started in, the sources that they may have imported, and whether they ran a check."""

    workers: Workers
    surroundings: tuple[Any, ...]
    sources: Files = field(default_factory=dict)
    used: bool = False


_lock = threading.RLock()
_kept: list[Kept] = []  # one or none


@contextmanager
def kept(devices: int) -> Iterator[Kept]:
    """Workers for one caller at a time: those of earlier checks, unless what they have imported or seen has changed."""
    with _lock:
        sources = _sources()
        if _kept and (_kept[0].surroundings != _surroundings() or _changed(_kept[0].sources, sources)):
            close()
        if not _kept:
            _kept.append(Kept(workers=Workers(jax_devices=devices), surroundings=_surroundings()))
        _kept[0].sources |= sources
        yield _kept[0]


@atexit.register
def close() -> None:
    """End them; the next check starts others. In a forked process they are its parent's."""
    with _lock:
        while _kept:
            last = _kept.pop()
            if last.surroundings[0] == os.getpid():
                last.workers.close()


def _surroundings() -> tuple[Any, ...]:
    """What a process takes over from the one that starts it."""
    variables = frozenset((name, value) for name, value in os.environ.items() if name != _VOLATILE)
    return os.getpid(), os.getcwd(), tuple(sys.path), variables


def _sources() -> Files:
    """Modules of this process that are no installed library, with time and size of their files."""
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    own = [file for file in files if file.endswith(".py") and not file.startswith(_UNCHANGING) and os.path.exists(file)]
    return {file: ((stat := os.stat(file)).st_mtime_ns, stat.st_size) for file in own}


def _changed(before: Files, now: Files) -> bool:
    return any(now.get(file, stamp) != stamp for file, stamp in before.items())
