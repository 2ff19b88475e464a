"""Targets of faults: which mixin of which module is planted in which implementation, and on which meshes."""

from __future__ import annotations

_FOLDER = "suites.data.faults"
_TENSOR = "suites.tensor.faults"

HYBRID = ("data=2,fsdp=4",)  # state over fsdp, replicated over data
HYBRID_WAYS = ("data=2,fsdp=4", "data=4,fsdp=2@shuffled")
SMALL = ("data=2,fsdp=2",)
UNEVEN = ("data=2,fsdp=3",)  # divides no size of the model
CROSSED = ("data=2,tensor=2",)  # rows over one axis, and something else over the other


def both(way: str, mixin: str) -> dict[str, str]:
    """The same mixin for both frameworks, `module:Class`; `way` is the implementation without its framework."""
    path = mixin if mixin.startswith("suites.") else f"{_FOLDER}.{mixin}"
    return {f"jax-{way}": path, f"torch-{way}": path}


def of_tensor(way: str, mixin: str) -> dict[str, str]:
    """The same mixin for both frameworks, from the tensor suite."""
    return both(way, f"{_TENSOR}.{mixin}")


def each(way: str, mixin: str, folder: str = _FOLDER) -> dict[str, str]:
    """One mixin for each framework, of the same name."""
    return {f"jax-{way}": f"{folder}.in_jax:{mixin}", f"torch-{way}": f"{folder}.in_torch:{mixin}"}


def in_torch(way: str, mixin: str) -> dict[str, str]:
    """For faults of one framework only."""
    return {f"torch-{way}": f"{_FOLDER}.in_torch:{mixin}"}
