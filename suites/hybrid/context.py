"""Stages of a pipeline whose tokens are divided over the sequence and the tensor axis. Framework-neutral."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

Conforming: Any = object  # a pipeline in front of a language model with divided tokens


class ContextInStages(Conforming):
    """Every device of a stage sends the tokens that it has to the device of the next stage that has the same."""

    @cached_property
    def segments(self):
        """What crosses a cut is the stream: the tokens of one device of both axes."""
        tokens = len(self.token_order()) // (self.context_size() * self.tensor_size())
        return tuple(self.of_tokens(segment, tokens) for segment in super().segments)

    def of_tokens(self, segment, tokens: int):
        enters = {name: (tokens, *shape[1:]) for name, shape in segment.enters.items()}
        return replace(segment, enters=enters)
