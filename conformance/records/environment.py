"""Environment: what a run ran with, and the content hash of the code that judged it. Imports no framework."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("shardproof", "jax", "jaxlib", "flax", "torch", "numpy", "pydantic")
FLAGS = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES")


def packages() -> dict[str, str | None]:
    """Distribution -> installed version, None where it is missing."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, object]:
    """The machine: platform, Python, cores that this process may use, memory in bytes."""
    import psutil

    return {
        "platform": platform.platform(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cpu_count": cores(),
        "memory_bytes": psutil.virtual_memory().total,
    }


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def flags() -> dict[str, str]:
    """Environment variables that change what the frameworks compute, where they are set."""
    return {name: os.environ[name] for name in FLAGS if name in os.environ}


def content_hash() -> str:
    """SHA-256 over the source of the engine, the suites and what the suites' distributions install beside them."""
    digest = hashlib.sha256()
    for package in _judging_packages():
        folder = _folder(package)
        if folder is None:
            continue
        for path in sorted(folder.rglob("*.py")):
            digest.update(f"{package}/{path.relative_to(folder)}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def file_hashes(implementations: Iterable[str]) -> dict[str, str]:
    """File -> SHA-256, of implementations that are given as `file.py:Class`."""
    files = sorted({name.rpartition(":")[0] for name in implementations})
    return {file: hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if Path(file).is_file()}


def _judging_packages() -> list[str]:
    names = {__name__.partition(".")[0]}
    for entry in entry_points(group="shardproof.suites"):
        names.add(entry.module.partition(".")[0])
        top_level = entry.dist.read_text("top_level.txt") if entry.dist else None
        names.update((top_level or "").split())
    return sorted(names)


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None
