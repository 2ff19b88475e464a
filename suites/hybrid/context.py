"""Stages of a pipeline whose tokens are sharded over the sequence and the tensor axis. Framework-neutral."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

Conforming: Any = object  # a pipelined language model with sharded tokens


class ContextInStages(Conforming):
    """Every device of a stage sends the tokens that it has to the device of the next stage that has the same."""

    @cached_property
    def stage_units(self):
        """What crosses a cut is the stream: the tokens of one device of both axes."""
        tokens = len(self.token_order()) // (self.context_size() * self.tensor_size())
        return tuple(self.of_tokens(unit, tokens) for unit in super().stage_units)

    def of_tokens(self, unit, tokens: int):
        enters = {name: (tokens, *shape[1:]) for name, shape in unit.enters.items()}
        return replace(unit, enters=enters)
