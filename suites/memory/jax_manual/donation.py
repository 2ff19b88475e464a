"""The state of a step is donated: the new state takes over its memory, and nobody can read it any more.

Law: the same bits as without donation, and the bytes of one state less while the step runs.
Source: https://docs.jax.dev/en/latest/buffer_donation.html
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax

from conformance.contract.implementation import Declarations

if TYPE_CHECKING:
    from suites.tensor.jax_manual.transformer import LanguageModel as Conforming
else:
    Conforming = object  # a mixin: it comes before the model in the bases


class Donating(Conforming):
    """A mixin for any training step whose program takes (state, batch)."""

    donated: tuple[int, ...] = (0,)  # of the arguments of the program

    @cached_property
    def program(self) -> Any:
        return jax.jit(super().program, donate_argnums=self.donated)

    def declare(self) -> Declarations:
        return replace(super().declare(), donates=True)
