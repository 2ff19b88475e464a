"""Targets of faults: which mixin of which module is planted in which implementation, and on which meshes."""

from __future__ import annotations

_FOLDER = "suites.pipeline.faults"

CROSSED = ("data=2,pipeline=4",)  # to name the axis is a test only where there are two
CROSSED_WAYS = ("data=2,pipeline=4", "data=3,pipeline=2@shuffled")
UNEVEN = ("data=2,pipeline=3",)


def both(schedule: str, mixin: str) -> dict[str, str]:
    """One text for both frameworks, `module:Class`."""
    path = mixin if mixin.startswith("suites.") else f"{_FOLDER}.{mixin}"
    return {f"jax-{schedule}": path, f"torch-{schedule}": path}


def each(schedule: str, mixin: str) -> dict[str, str]:
    """One text for each framework, of the same name."""
    return in_jax(schedule, mixin) | {f"torch-{schedule}": f"{_FOLDER}.in_torch:{mixin}"}


def in_jax(schedule: str, mixin: str) -> dict[str, str]:
    """Where a program can go on with what is wrong; ranks that wait for each other could not."""
    return {f"jax-{schedule}": f"{_FOLDER}.in_jax:{mixin}"}
