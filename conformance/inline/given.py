"""Given: what was handed over as `parameters`, taken apart: a mapping, a tree, a module, or what makes one."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from conformance.cases.functions import Blueprint
from conformance.contract.implementation import Framework
from conformance.inline import trees
from conformance.inline.located import where
from conformance.inline.pickled import pickled


@dataclass(frozen=True, kw_only=True)
class Given:
    """Names and values; values are still those of the library that they came from.

    framework  whose module it is; None for a tree, which either framework may have
    frozen     parameters that are not trained
    buffers    what a module keeps besides parameters
    """

    parameters: Mapping[str, Any]
    blueprint: Blueprint
    framework: Framework | None = None
    frozen: tuple[str, ...] = ()
    buffers: Mapping[str, Any] = field(default_factory=dict)


def given(value: Any, frozen: Sequence[str] = ()) -> Given:
    """Raises ValueError, in one sentence, for what is none of these, and for `frozen` that fits no name."""
    taken = _taken(value)
    patterns = (frozen,) if isinstance(frozen, str) else tuple(frozen)
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in taken.parameters):
            raise ValueError(f"frozen names '{pattern}', which is none of {', '.join(taken.parameters)}.")
    more = [name for name in taken.parameters if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return replace(taken, frozen=tuple(dict.fromkeys((*taken.frozen, *more))))


def _taken(value: Any) -> Given:
    own = _of_module(value)
    if own is not None:
        data, modules = pickled(f"The module {type(value).__name__}", value)
        return replace(own, blueprint=Blueprint(kind="module", pickled=data, modules=modules))
    if callable(value) and not isinstance(value, Mapping):
        return _built(value)
    if not isinstance(value, (Mapping, list, tuple)) and not trees.is_container(value):
        raise ValueError(
            f"parameters is a {type(value).__name__}: give a mapping from name to array, a tree of such, a module of "
            "torch or Flax NNX, or a function that makes one."
        )
    data, modules = pickled("The tree of parameters", trees.names(value))
    blueprint = Blueprint(kind="tree", pickled=data, modules=modules)
    return Given(parameters=trees.leaves(value), blueprint=blueprint)


def _built(function: Any) -> Given:
    path = where(function)
    if any(p.default is p.empty and p.kind < p.VAR_POSITIONAL for p in inspect.signature(function).parameters.values()):
        raise ValueError(f"'{function.__name__}' needs arguments: what makes the parameters is called without any.")
    made = function()
    own = _of_module(made)
    if own is None:
        raise ValueError(f"'{function.__name__}' makes a {type(made).__name__}, and no module of torch or Flax NNX.")
    return replace(own, blueprint=Blueprint(kind="module", builder=path))


def _of_module(value: Any) -> Given | None:
    """What a module has; None for anything else. No framework is imported that is not there."""
    torch, nnx = sys.modules.get("torch"), sys.modules.get("flax.nnx")
    if torch is not None and isinstance(value, torch.nn.Module):
        from conformance.inline.torch_model import buffers_of, frozen_of, parameters_of

        return Given(
            framework="torch",
            parameters=parameters_of(value),
            blueprint=Blueprint(kind="module"),
            frozen=frozen_of(value),
            buffers=buffers_of(value),
        )
    if nnx is not None and isinstance(value, nnx.Module):
        from conformance.inline.jax_model import variables_of

        parameters, buffers, _ = variables_of(value)
        return Given(framework="jax", parameters=parameters, blueprint=Blueprint(kind="module"), buffers=buffers)
    return None
