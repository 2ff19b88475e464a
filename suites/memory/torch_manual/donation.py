"""The state is updated in place: the new one takes over the memory of the old one.

Law: the same bits as in a new memory, and no more than one tensor of each kind beside the state while it is updated.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from torch import Tensor

from conformance.contract.implementation import Declarations
from suites.training.torch.state import Named, State

if TYPE_CHECKING:
    from suites.tensor.torch_manual.transformer import LanguageModel as Conforming
else:
    Conforming = object  # a mixin: it comes before the model in the bases


class Donating(Conforming):
    """A mixin for any training step whose state is {parameters, optimizer, count}."""

    def update(self, state: State, gradients: Named, factor: Tensor) -> State:
        new = super().update(state, gradients, factor)
        slots = {slot: self.written(state["optimizer"][slot], values) for slot, values in new["optimizer"].items()}
        return new | {"parameters": self.written(state["parameters"], new["parameters"]), "optimizer": slots}

    def written(self, old: Named, new: Named) -> Named:
        """The new values, in the memory of the old ones."""
        return {name: old[name].copy_(value) for name, value in new.items()}

    def declare(self) -> Declarations:
        return replace(super().declare(), donates=True)
