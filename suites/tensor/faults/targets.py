"""Targets of faults: which mixin of which module is planted in which implementation, and on which meshes."""

from __future__ import annotations

JAX, TORCH = "jax-shard_map", "torch-collectives"
_FOLDER = "suites.tensor.faults"

BOTH_AXES = ("data=2,tensor=4",)  # the standing mesh: with two axes the diagnosis must name the right one
BOTH_WAYS = ("data=2,tensor=4", "data=4,tensor=2")


def both(mixin: str) -> dict[str, str]:
    """The same mixin for both frameworks, `module:Class`."""
    return dict.fromkeys((JAX, TORCH), f"{_FOLDER}.{mixin}")


def each(mixin: str) -> dict[str, str]:
    """One mixin for each framework, of the same name."""
    return in_jax(mixin) | in_torch(mixin)


def in_jax(mixin: str) -> dict[str, str]:
    return {JAX: f"{_FOLDER}.in_jax:{mixin}"}


def in_torch(mixin: str) -> dict[str, str]:
    return {TORCH: f"{_FOLDER}.in_torch:{mixin}"}


def github(*reports: str) -> tuple[str, ...]:
    """`owner/name#12` -> the address of issue or pull request 12 (GitHub leads from one to the other)."""
    return tuple("https://github.com/{}/issues/{}".format(*report.split("#")) for report in reports)
