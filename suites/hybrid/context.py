"""Stages of a pipeline whose tokens are sharded over the sequence and the tensor axis. Framework-neutral."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from suites.pipeline.stage_units import StageUnit

if TYPE_CHECKING:

    class Conforming:
        """A pipelined language model with sharded tokens, in either framework."""

        @cached_property
        def stage_units(self) -> tuple[StageUnit, ...]: ...
        def token_order(self) -> np.ndarray: ...
        def context_size(self) -> int: ...
        def tensor_size(self) -> int: ...
else:
    Conforming = object  # a mixin: it comes before the model in the bases


class ContextInStages(Conforming):
    """Every device of a stage sends the tokens that it has to the device of the next stage that has the same."""

    @cached_property
    def stage_units(self) -> tuple[StageUnit, ...]:
        """What crosses a cut is the stream: the tokens of one device of both axes."""
        tokens = len(self.token_order()) // (self.context_size() * self.tensor_size())
        return tuple(self.of_tokens(unit, tokens) for unit in super().stage_units)

    def of_tokens(self, unit: StageUnit, tokens: int) -> StageUnit:
        enters = {name: (tokens, *shape[1:]) for name, shape in unit.enters.items()}
        return replace(unit, enters=enters)
