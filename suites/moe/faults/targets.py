"""Targets of faults: which mixin of which module is planted in which implementation, and on which meshes."""

from __future__ import annotations

CAPACITY, RAGGED, TORCH = "jax-capacity", "jax-ragged", "torch-exchange"
_FOLDER = "suites.moe.faults"

CROSSED = ("data=2,expert=4",)  # with two axes the diagnosis must name the right one
CROSSED_WAYS = ("data=2,expert=4", "data=3,expert=2@shuffled")
TENSOR = ("expert=2,tensor=4",)  # experts, and the features of each, sharded


def all_ways(mixin: str) -> dict[str, str]:
    """The same mixin for every implementation, `module:Class`."""
    return dict.fromkeys((CAPACITY, RAGGED, TORCH), f"{_FOLDER}.{mixin}")


def both(mixin: str) -> dict[str, str]:
    """The same mixin for one implementation of each framework."""
    return dict.fromkeys((CAPACITY, TORCH), f"{_FOLDER}.{mixin}")


def sorted_ways(mixin: str) -> dict[str, str]:
    """The same mixin for the implementations that sort their tokens."""
    return dict.fromkeys((RAGGED, TORCH), f"{_FOLDER}.{mixin}")


def each(mixin: str, folder: str = _FOLDER) -> dict[str, str]:
    """One mixin for each framework, of the same name."""
    return {RAGGED: f"{folder}.in_jax:{mixin}", TORCH: f"{folder}.in_torch:{mixin}"}
