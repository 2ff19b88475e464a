"""A control of both frameworks."""

from __future__ import annotations

from dataclasses import replace

from suites.tensor.faults import Conforming


class EverythingSpilled(Conforming):
    """The threshold is one byte: every activation goes to host memory and comes back."""

    def __init__(self, contract, mesh, dtype):
        super().__init__(replace(contract, recipe=replace(contract.recipe, spill=1)), mesh, dtype)
