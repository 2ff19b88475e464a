"""Variations: contracts that stand in no table, made of one that does by other values of some of its fields.

Their names say what is changed, so that a case can be run again from its id alone: `tensor/mlp~ffn=7,rows=5`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from conformance.cases.usage import UsageError
from conformance.contract.contract import Contract

MARK = "~"
KEPT = 256  # contracts that are remembered

Changes = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Variations:
    """What may be varied of the contracts of a suite.

    values  contract -> field -> values to draw from, the plainest first; empty where the contract cannot be varied
    varied  (contract, changes) -> the contract with these values, under its old name; raises ValueError, with one
            sentence, where they do not go together
    """

    values: Callable[[Contract], Mapping[str, tuple[object, ...]]]
    varied: Callable[[Contract, Changes], Contract]


def name_of(contract: str, changes: Changes) -> str:
    """`tensor/mlp~ffn=7,rows=5`, fields in alphabetical order; the contract's own name where nothing is changed."""
    written = ",".join(f"{field}={value}" for field, value in sorted(changes.items()))
    return f"{contract}{MARK}{written}" if written else contract


def origin_of(name: str) -> str:
    """The contract of the table that a name says, or of which it says a variation."""
    return name.partition(MARK)[0]


def is_varied(name: str) -> bool:
    """Whether it is a contract with other values of some fields, or without a feature, and so in no table."""
    return MARK in name


def changes_in(name: str) -> tuple[str, Changes]:
    """The inverse of `name_of`. Raises UsageError for a change that cannot be read."""
    contract, _, written = name.partition(MARK)
    pairs = [part.partition("=") for part in written.split(",")] if written else []
    for field, equals, value in pairs:
        if not (field and equals and value):
            raise UsageError(f"Cannot read the variation '{written}' of {contract}: write field=value, as in rows=5.")
    return contract, {field: _value(value) for field, _, value in pairs}


def _value(text: str) -> object:
    """A number, None or a truth value; else the word itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def variation(contract: Contract, variations: Variations | None, name: str) -> Contract:
    """The variation of a contract that a name says. Raises UsageError where it cannot be."""
    _, changes = changes_in(name)
    known = variations.values(contract) if variations is not None else {}
    for field in changes:
        if field not in known:
            fields = ", ".join(known) or "nothing of it can be varied"
            raise UsageError(f"{contract.name} has no '{field}' to vary: {fields}.")
    assert variations is not None
    try:
        made = variations.varied(contract, changes)
        made.batches(0, 1)  # that of real text needs a vocabulary for all its bytes, say
    except ValueError as wrong:
        raise UsageError(f"{name} cannot be: {wrong}") from None
    return replace(made, name=name)
