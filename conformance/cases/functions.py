"""The two functions of `conformance.check` as a contract, which workers find again in a file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from conformance.contract.contract import Arrays, Contract, Recipe
from conformance.contract.implementation import Framework

PREFIX = "inline:"


@dataclass(frozen=True, kw_only=True)
class Functions:
    """Where the two functions are (`conformance.inline.located`), what they are given, and what its axes are for."""

    framework: Framework
    reference: str
    candidate: str
    parameters: Arrays
    batch: Arrays
    roles: Mapping[str, str]
    replicated_axes: tuple[str, ...] = ()
    still: tuple[str, ...] = ()


def contract(name: str) -> Contract:
    """The contract behind `inline:<file>`: one step of the two functions, without an optimizer."""
    functions: Functions = pickle.loads(Path(name.removeprefix(PREFIX)).read_bytes())
    return Contract(
        name=name,
        summary="a sharded function against its single-device reference",
        model=functions,
        shapes={key: value.shape for key, value in functions.parameters.items()},
        parameters=lambda seed: functions.parameters,
        batches=lambda seed, steps: [functions.batch] * steps,
        references={functions.framework: f"conformance.inline.{functions.framework}:Reference"},
        recipe=Recipe(steps=1),
        roles=functions.roles,
        held=False,
        replicated_axes=functions.replicated_axes,
        still=functions.still,
    )
