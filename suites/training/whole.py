"""An unsharded program: every rank trains the whole model on the whole batch, without communication."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from conformance.contract.implementation import Declarations


class WholeOnEveryRank:
    """A mixin for any implementation of a contract with a reference: the values are right, but nothing is parallel."""

    contract: Any
    dtype: Any
    framework: Any

    def place(self, parameters, mesh):
        module, _, name = self.contract.references[self.framework].partition(":")
        self.alone = getattr(import_module(module), name)(self.contract, self.dtype)
        return self.on_all(self.alone.place(parameters), mesh)

    def on_all(self, state, mesh):
        if self.framework == "torch":
            return state
        import jax

        return jax.device_put(state, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))

    def step(self, state, batch):
        return self.alone.step(state, batch)

    def collect(self, state):
        return self.alone.collect(state)

    def declare(self):
        return Declarations()

    def timeline(self):
        return None
