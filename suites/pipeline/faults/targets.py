"""Targets of faults: which mixin of which module is planted in which implementation, and on which meshes."""

from __future__ import annotations

_FOLDER = "suites.pipeline.faults"

CROSSED = ("data=2,pipeline=4",)  # with two axes the diagnosis must name the right one
CROSSED_WAYS = ("data=2,pipeline=4", "data=3,pipeline=2@shuffled")
UNEVEN = ("data=2,pipeline=3",)


def both(schedule: str, mixin: str) -> dict[str, str]:
    """The same mixin for both frameworks, `module:Class`."""
    path = mixin if mixin.startswith("suites.") else f"{_FOLDER}.{mixin}"
    return {f"jax-{schedule}": path, f"torch-{schedule}": path}


def each(schedule: str, mixin: str) -> dict[str, str]:
    """One mixin for each framework, of the same name."""
    return in_jax(schedule, mixin) | {f"torch-{schedule}": f"{_FOLDER}.in_torch:{mixin}"}


def in_jax(schedule: str, mixin: str) -> dict[str, str]:
    """For faults with which a single JAX program still finishes; torch ranks would deadlock."""
    return {f"jax-{schedule}": f"{_FOLDER}.in_jax:{mixin}"}
