"""Models in JAX: a module of Flax NNX or a tree of arrays, put together from named values, and read by name."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.cases.functions import Functions
from conformance.inline import trees
from conformance.inline.template import template

Values = dict[str, jax.Array]


class Model:
    """What was handed over, made anew for every placement: nothing is shared by two of them."""

    def __init__(self, functions: Functions) -> None:
        self.functions, self.template = functions, template(functions)
        self.streams: dict[str, Any] = variables_of(self.template)[2] if is_module(self.template) else {}

    def kept(self, dtype: str) -> dict[str, Values]:
        """What a module has besides parameters, as it begins: buffers, and random streams as plain numbers."""
        streams = {name: _numbers(value) for name, value in self.streams.items()}
        return {"buffers": cast(self.functions.buffers, dtype), "streams": streams}

    def built(self, parameters: Mapping[str, Any], kept: Mapping[str, Values]) -> Any:
        """With these values."""
        if not is_module(self.template):
            return trees.filled(self.template, parameters)
        from flax import nnx

        graph, state = nnx.split(self.template)
        streams = {name: _as_key(value, self.streams[name]) for name, value in kept["streams"].items()}
        values = {**parameters, **kept["buffers"], **streams}
        flat = [(path, variable.replace(values[trees.joined(path)])) for path, variable in nnx.to_flat_state(state)]
        return nnx.merge(graph, nnx.from_flat_state(flat), copy=True)

    def kept_by(self, model: Any) -> dict[str, Values]:
        """The same of a model that has been used."""
        if not is_module(model):
            return {"buffers": {}, "streams": {}}
        _, buffers, streams = variables_of(model)
        return {"buffers": buffers, "streams": {name: _numbers(value) for name, value in streams.items()}}

    def trained(self, parameters: Mapping[str, Any]) -> Any:
        """The parameters that are trained, in the containers in which an optimizer gets them."""
        own = {name: value for name, value in parameters.items() if name not in self.functions.frozen}
        if not is_module(self.template):
            return trees.filled(self.template, own)
        from flax import nnx

        paths = [(path, trees.joined(path)) for path, _ in nnx.to_flat_state(nnx.state(self.template, nnx.Param))]
        return nnx.to_pure_dict(nnx.from_flat_state([(path, own[name]) for path, name in paths if name in own]))


def is_module(value: Any) -> bool:
    """Whether it is one of Flax NNX, which is imported where there is one."""
    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(value, nnx.Module)


def variables_of(module: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """By name: parameters, other variables, and the keys and counters of random streams. Shared ones are there once."""
    from flax import nnx

    parameters: dict[str, Any] = {}
    buffers: dict[str, Any] = {}
    streams: dict[str, Any] = {}
    for path, variable in nnx.to_flat_state(nnx.state(module)):
        group = buffers
        if isinstance(variable, nnx.Param):
            group = parameters
        elif isinstance(variable, nnx.RngState):
            group = streams
        group[trees.joined(path)] = variable[...]
    return parameters, buffers, streams


def parameters_of(model: Any) -> dict[str, Any]:
    """By name, of a module, its state, or a tree."""
    return variables_of(model)[0] if is_module(model) else named(model)


def named(tree: Any) -> dict[str, Any]:
    """The leaves of a tree by name; a variable of Flax NNX is what it holds."""
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(tree, (nnx.State, nnx.Module)):
        state = nnx.state(tree) if isinstance(tree, nnx.Module) else tree
        return {trees.joined(path): getattr(leaf, "value", leaf) for path, leaf in nnx.to_flat_state(state)}
    return trees.leaves(tree)


def slots_of(optimizer: Any) -> dict[str, Any]:
    """`<slot>/<parameter>` -> value of the state of an optax optimizer, or of an `nnx.Optimizer`.

    Places in chains are left out of a name, unless two slots would have the same.
    """
    nnx = sys.modules.get("flax.nnx")
    if nnx is not None and isinstance(optimizer, nnx.Optimizer):
        state = nnx.to_flat_state(nnx.state(optimizer))
        paths = [(path[1:], leaf[...]) for path, leaf in state if path[0] == "opt_state"]
    else:
        flat = jax.tree_util.tree_flatten_with_path(optimizer)[0]
        paths = [([*map(_word, path)], leaf) for path, leaf in flat]
    short = [_slot(path) for path, _ in paths]
    pairs = zip(short, paths, strict=True)
    return {own if short.count(own) == 1 else ".".join(map(str, path)): leaf for own, (path, leaf) in pairs}


def cast(arrays: Mapping[str, np.ndarray], dtype: str) -> Values:
    """Real numbers in the dtype, all others as they are."""
    return {
        name: jnp.array(a, dtype=dtype if np.issubdtype(a.dtype, np.floating) else None) for name, a in arrays.items()
    }


def in_dtype(values: Mapping[str, Any], dtype: str) -> Values:
    return {name: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x for name, x in values.items()}


def _word(key: Any) -> Any:
    return getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))


def _slot(path: Any) -> str:
    words = list(path)
    while words and isinstance(words[0], int):
        words.pop(0)
    return "/".join(filter(None, [str(words[0]), ".".join(map(str, words[1:]))])) if words else ""


def _numbers(value: Any) -> Any:
    """A key as the numbers that it is made of."""
    return jax.random.key_data(value) if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) else value


def _as_key(value: Any, like: Any) -> Any:
    if not jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return value
    return jax.random.wrap_key_data(value, impl=jax.random.key_impl(like))
