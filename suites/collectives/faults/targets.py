"""Targets of faults: which mixin of which module is planted in which implementation, and on which meshes."""

from __future__ import annotations

_FOLDER = "suites.collectives.faults"
PLANE = ("data=2,tensor=4",)  # with two axes the diagnosis must name the right one
SQUARE = ("data=2,tensor=2",)
UNEVEN = ("data=2,tensor=3",)


def in_jax(mixin: str, implementation: str = "shard_map") -> dict[str, str]:
    """`module:Class`, or a class of `in_jax`."""
    return {f"jax-{implementation}": _path(mixin, "in_jax")}


def in_torch(mixin: str, implementation: str = "collectives") -> dict[str, str]:
    return {f"torch-{implementation}": _path(mixin, "in_torch")}


def native(mixin: str) -> dict[str, str]:
    """The same mixin for both frameworks where it names its module, else one of that name for each."""
    return in_jax(mixin) | in_torch(mixin)


def by_algorithm(algorithm: str, mixin: str) -> dict[str, str]:
    return in_jax(f"schedules:{mixin}", algorithm) | in_torch(f"schedules:{mixin}", algorithm)


def _path(mixin: str, module: str) -> str:
    return f"{_FOLDER}.{mixin}" if ":" in mixin else f"{_FOLDER}.{module}:{mixin}"


def github(*reports: str) -> tuple[str, ...]:
    """`owner/name#12` -> the address of issue or pull request 12 (GitHub leads from one to the other)."""
    return tuple("https://github.com/{}/issues/{}".format(*report.split("#")) for report in reports)
