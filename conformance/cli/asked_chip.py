"""The chip that a command is about: the one that is asked for, else that of the plan file, or the usual one."""

from __future__ import annotations

from pathlib import Path

from conformance.cases.plan_file import read_plan
from conformance.targets.chip import USUAL, Chip, chip_named, chip_of


def asked_chip(name: str, asked: str | None) -> Chip:
    """`name` is a case, a plan, or a plan file, whose chip has the memory that the plan was made for."""
    if asked is None and name.endswith(".json"):
        return chip_of(read_plan(Path(name)).chip, name)
    return chip_named(asked or USUAL)
