"""What was handed over as the parameters: a tree of names, or a module that is made or read anew."""

from __future__ import annotations

from typing import Any

from conformance.cases.functions import Functions
from conformance.inline import trees
from conformance.inline.pickled import unpickled
from conformance.workers.lookup import load


def template(functions: Functions) -> Any:
    """The tree of names where parameters came as a tree, else the module."""
    blueprint = functions.blueprint
    if blueprint is None:
        return trees.names(functions.parameters)
    return load(blueprint.builder)() if blueprint.builder else unpickled(blueprint.pickled, blueprint.modules)
