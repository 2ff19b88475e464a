"""The attributes of an object in JAX, and of objects of its own below it, as arrays and all else.

Arrays are looked for in trees, in modules of Flax, and in objects that JAX does not know, a namespace say. Nobody sees
those in a closure, in an iterator or behind slots.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType, MethodType, ModuleType
from typing import Any

import jax
import numpy as np

from conformance.inline import trees

NO_HOLDERS = (jax.Array, type, ModuleType, FunctionType, MethodType)
Home = tuple[Any, str]  # an object, and the name of its attribute


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """All but the arrays.

    homes   where each attribute is, by its path
    tree    the containers that they are in, and `graph`, the graph of those that have modules of Flax
    names   of the arrays
    plain   number of a leaf -> what it is, where it is no array
    keys    number of an array -> how its random keys are made of numbers, as which they are kept
    """

    homes: Mapping[str, Home]
    tree: Any
    graph: Any
    names: tuple[str, ...]
    plain: Mapping[int, Any]
    keys: Mapping[int, Any]

    def give(self, arrays: Sequence[Any]) -> None:
        """Let the objects have these attributes, with these arrays in them, and no others."""
        keyed = [jax.random.wrap_key_data(x, impl=self.keys[n]) if n in self.keys else x for n, x in enumerate(arrays)]
        left, leaves = iter(keyed), range(len(arrays) + len(self.plain))
        values, state = self.tree.unflatten([self.plain[n] if n in self.plain else next(left) for n in leaves])
        if self.graph is not None:
            values |= sys.modules["flax.nnx"].merge(self.graph, state, copy=True)
        for owner, _ in self.homes.values():
            owner.__dict__.clear()
        for path, (owner, name) in self.homes.items():
            owner.__dict__[name] = values[path]


def attributes_of(owner: Any) -> tuple[Attributes, list[Any]]:
    """(the attributes, the arrays in them)."""
    homes = {f"{path}{name}": (own, name) for path, own in _with_arrays(owner) for name in vars(own)}
    values = {path: vars(own)[name] for path, (own, name) in homes.items()}
    modules = {path: value for path, value in values.items() if _has_modules(value)}
    graph, state = sys.modules["flax.nnx"].split(modules) if modules else (None, {})
    others = {path: value for path, value in values.items() if path not in modules}
    leaves, tree = _flat((others, state))
    plain = {n: leaf for n, (_, leaf) in enumerate(leaves) if not _is_array(leaf)}
    named = [(trees.joined(path[1:]), leaf) for path, leaf in leaves if _is_array(leaf)]
    keys = {n: jax.random.key_impl(x) for n, (_, x) in enumerate(named) if _is_key(x)}
    arrays = [jax.random.key_data(x) if n in keys else x for n, (_, x) in enumerate(named)]
    names = tuple(name for name, _ in named)
    return Attributes(homes=homes, tree=tree, graph=graph, names=names, plain=plain, keys=keys), arrays


def _with_arrays(owner: Any) -> Iterator[tuple[str, Any]]:
    """The object, and those below it that hold arrays of JAX, by the path to their attributes."""
    for path, own in _objects(owner):
        if own is owner or any(isinstance(leaf, jax.Array) for _, leaf in _flat(vars(own))[0]):
            yield path, own


def _objects(owner: Any) -> Iterator[tuple[str, Any]]:
    """The object and those below it that have attributes, by the path to these."""
    waiting, met = [("", owner)], set[int]()
    while waiting:
        path, own = waiting.pop()
        if id(own) in met or isinstance(own, NO_HOLDERS) or not isinstance(getattr(own, "__dict__", None), dict):
            continue
        met.add(id(own))
        yield path, own
        waiting += [(f"{path}{trees.joined(keys)}.", leaf) for keys, leaf in _flat(vars(own))[0]]


def _flat(value: Any) -> tuple[list[tuple[Any, Any]], Any]:
    """The leaves by their paths, and the containers."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(value, is_leaf=_is_unordered)
    return leaves, tree


def _is_unordered(value: Any) -> bool:
    """A mapping is no tree to JAX where its keys have no order."""
    try:
        sorted(value if isinstance(value, dict) else ())
    except TypeError:
        return True
    return False


def _has_modules(value: Any) -> bool:
    nnx = sys.modules.get("flax.nnx")

    def is_module(leaf: Any) -> bool:
        return nnx is not None and isinstance(leaf, (nnx.Pytree, nnx.Variable))

    leaves = jax.tree_util.tree_leaves(value, is_leaf=lambda leaf: is_module(leaf) or _is_unordered(leaf))
    return any(map(is_module, leaves))


def _is_array(value: Any) -> bool:
    """Of numbers, and still there: one that was donated is not."""
    if isinstance(value, jax.Array):
        return isinstance(value, jax.core.Tracer) or not value.is_deleted()
    return isinstance(value, np.ndarray) and (jax.dtypes.issubdtype(value.dtype, np.number) or value.dtype == bool)


def _is_key(value: Any) -> bool:
    return isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
