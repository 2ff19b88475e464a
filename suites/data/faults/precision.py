"""Master weights that are bypassed."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class MasterNotUsed(Conforming):
    """The optimizer updates the rounded parameters: updates below their last bit are lost in every step."""

    def update(self, state, gradients, factor):
        slots = {slot: values for slot, values in state["optimizer"].items() if slot != "master"}
        return super().update(state | {"optimizer": slots}, gradients, factor)


class NotCopiedFromMaster(Conforming):
    """The master copy of one parameter is updated, and the model never sees it."""

    def update(self, state, gradients, factor):
        new, before = super().update(state, gradients, factor), state["parameters"]
        stale = {name: p for name, p in before.items() if name.endswith(".down.weight")}
        return new | {"parameters": new["parameters"] | stale}
