"""Planted errors: a program that is right but for a small relative error of one gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.programs.program import PLANTED


class InW:
    """Mixed in before a candidate; in the gradient of w."""

    spoiled = "gradients/w"

    def step(self, state: Any, batch: Any) -> tuple[Any, Mapping[str, Any]]:
        state, seen = super().step(state, batch)  # type: ignore[misc]
        return state, {**seen, self.spoiled: seen[self.spoiled] * (1 + PLANTED)}


class InV(InW):
    """In the gradient of v."""

    spoiled = "gradients/v"
