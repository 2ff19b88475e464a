"""Targets of faults: which mixin of which module is planted in which implementation, and on which meshes."""

from __future__ import annotations

_FOLDER = "suites.sequence.faults"
_TOKENS, _RING, _ZIGZAG, _ULYSSES = "jax-shard_map", "jax-ring", "jax-zigzag", "jax-ulysses"
_PRODUCTS = "jax-ring_matmul"
_TORCH = {
    _TOKENS: "torch-collectives",
    _PRODUCTS: "torch-ring_matmul",
    _RING: "torch-ring",
    _ZIGZAG: "torch-zigzag",
    _ULYSSES: "torch-ulysses",
}

FLAT = ("data=2,tensor=4",)  # tokens over the tensor axis
LONG = ("data=2,sequence=4",)  # rows over the sequence axis
CUBE = ("data=2,tensor=2,sequence=2",)  # both


def tokens(mixin: str) -> dict[str, str]:
    """The same mixin for both frameworks, `module:Class`, in sequence parallelism."""
    return _both(_TOKENS, mixin)


def products(mixin: str) -> dict[str, str]:
    """In sequence parallelism whose products gather their tokens in a ring."""
    return _both(_PRODUCTS, mixin)


def ring(mixin: str) -> dict[str, str]:
    """In ring attention."""
    return _both(_RING, mixin)


def zigzag(mixin: str) -> dict[str, str]:
    return _both(_ZIGZAG, mixin)


def ulysses(mixin: str) -> dict[str, str]:
    return _both(_ULYSSES, mixin)


def each(where: str, mixin: str, folder: str = _FOLDER) -> dict[str, str]:
    """One mixin for each framework, of the same name; `where` is the implementation without its framework."""
    here = {"tokens": _TOKENS, "ring": _RING, "zigzag": _ZIGZAG, "ulysses": _ULYSSES}[where]
    return {here: f"{folder}.in_jax:{mixin}", _TORCH[here]: f"{folder}.in_torch:{mixin}"}


def _both(here: str, mixin: str) -> dict[str, str]:
    path = mixin if mixin.startswith("suites.") else f"{_FOLDER}.{mixin}"
    return {here: path, _TORCH[here]: path}
