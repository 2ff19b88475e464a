"""Full sharding by annotation: parameters, gradients and slots lie divided over fsdp, and the program is that of one.

Where a parameter does not divide, it is stored with zeros at its end and cut for use.
Source: Xu et al., Automatic Cross-Replica Sharding of Weight Update in Data-Parallel Training.
"""

from __future__ import annotations

from suites.data.arrangement import ShardedState
from suites.tensor.jax_automatic import linear, transformer


class FullyAnnotated(ShardedState):
    """In front of a training step by annotation."""

    def placements(self, name):
        return self.sharded_placements(name) if name in self.contract.shapes else super().placements(name)

    def positions(self, name):
        return self.sharded_positions(name) if name in self.contract.shapes else super().positions(name)


class Linear(FullyAnnotated, linear.ColumnLinear):
    """One linear layer."""


class LanguageModel(FullyAnnotated, transformer.LanguageModel):
    """The decoder language model."""
