"""Full sharding by annotation: parameters, gradients and slots lie sharded over fsdp, and the program is that of one.

Where a parameter does not divide, it is stored with zeros at its end and cut for use.
Source: Xu et al., Automatic Cross-Replica Sharding of Weight Update in Data-Parallel Training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import numpy as np

from conformance.contract.budget import Allowance
from conformance.contract.placements import Placements
from suites.data.budget import ShardedSizes, contrastive
from suites.data.jax_automatic.contrastive import ContrastiveTowers
from suites.data.layout import ShardedState, in_chunks
from suites.tensor.budget import TensorSizes
from suites.tensor.jax_automatic import linear, transformer
from suites.training.state_layout import Positions


class FullyAnnotated(ShardedState):
    """A mixin for a training step by annotation."""

    def placements(self, name: str) -> Placements:
        return self.sharded_placements(name) if name in self.contract.shapes else super().placements(name)

    def positions(self, name: str) -> Positions:
        return self.sharded_positions(name) if name in self.contract.shapes else super().positions(name)

    sizes: ClassVar[type[TensorSizes]] = ShardedSizes

    def sharded_positions(self, name: str) -> Positions:
        """In canonical order over all axes that divide the dim, filled up at its end."""
        positions, dim = dict(self.computed_positions(name)), self.shard_dim(name)
        size, parts = self.contract.shapes[name][dim], self.shard_size() * self.others(name)
        positions.pop(dim, None)
        return positions | ({dim: in_chunks(np.arange(size), parts).reshape(-1)} if size % parts else {})


class Linear(FullyAnnotated, linear.ColumnLinear):
    """One linear layer."""


class LanguageModel(FullyAnnotated, transformer.LanguageModel):
    """The decoder language model."""


class Contrastive(FullyAnnotated, ContrastiveTowers):
    """Two towers and a loss that couples all rows."""

    def budget(self) -> Iterable[Allowance]:
        return contrastive(self.sizes(self))
