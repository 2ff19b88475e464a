"""Compiled JAX programs of earlier runs, kept in the user's cache folder; every one is keyed by the program itself."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax

_LOG = logging.getLogger("shardproof.workers")

_LEAST_SECONDS = "jax_persistent_cache_min_compile_time_secs"
LARGEST_BYTES = 2**29  # beyond that the folder starts afresh


def keep_compiled() -> None:
    """Use the folder that JAX was told to use, else our own; where none can be written, every run compiles."""
    if jax.config.values.get("jax_compilation_cache_dir") is not None:
        return
    try:
        folder = _home() / "shardproof" / f"jax-{jax.__version__}-{_machine()}"
        folder.mkdir(parents=True, exist_ok=True)
        _limit(folder)
        (folder / "written").touch()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update(_LEAST_SECONDS, 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    except (OSError, RuntimeError):  # a folder that cannot be written, a user without a home
        _LOG.debug("No compiled program is kept.", exc_info=True)


@contextmanager
def unkept() -> Iterator[None]:
    """Leave what is compiled inside out of the folder.

    A mutant is never read again, and takes longer to write than to compile; a program that comes from the folder dumps
    no text.
    """
    least = jax.config.values[_LEAST_SECONDS]
    jax.config.update(_LEAST_SECONDS, float("inf"))
    try:
        yield
    finally:
        jax.config.update(_LEAST_SECONDS, least)


def _home() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if Path(given).is_absolute() else Path.home() / ".cache"


def _machine() -> str:
    """Compiled code is for the instructions of one kind of processor, and a home may be shared by several kinds."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
    return hashlib.sha256(flags.encode()).hexdigest()[:8]


def _limit(folder: Path) -> None:
    if sum(entry.stat().st_size for entry in os.scandir(folder)) > LARGEST_BYTES:
        shutil.rmtree(folder)
        folder.mkdir()
