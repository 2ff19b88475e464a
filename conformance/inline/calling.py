"""Calling what somebody handed over, in a worker."""

from __future__ import annotations

import inspect
from typing import Any

from conformance.cases.functions import Call
from conformance.contract.implementation import Declarations
from conformance.contract.mesh import Mesh
from conformance.workers.lookup import load
from conformance.workers.observe import Unreadable


def called(call: Call, *args: Any) -> Any:
    """With what a partial of theirs has fixed."""
    return load(call.path)(*call.args, *args, **call.keywords)


def constructed(path: str, model: Any, mesh: Any, dtype: Any) -> Any:
    """A trainer of theirs; it is given the dtype if it has an argument of that name."""
    made = load(path)
    takes = "dtype" in inspect.signature(made).parameters
    return made(model, mesh, dtype=dtype) if takes else made(model, mesh)


def attribute(trainer: Any, name: str) -> Any:
    """Raises Unreadable, in one sentence, where a trainer has none of that name."""
    if not hasattr(trainer, name):
        raise Unreadable(
            f"{type(trainer).__name__} has no attribute '{name}', nor a method 'collect' that says what it has learnt: "
            "'model' is the module or the tree of its parameters, 'optimizer' what it trains them with."
        )
    return getattr(trainer, name)


def declared(given: Any, mesh: Mesh, dtype: str) -> Declarations:
    """What was handed over as `declare`: declarations, or where the function is that makes them."""
    if given is None:
        return Declarations()
    made = called(given, mesh, dtype) if isinstance(given, Call) else given
    if not isinstance(made, Declarations):
        raise Unreadable(f"'declare' returns a {type(made).__name__}, where conformance.Declarations are wanted.")
    return made
