"""Where parameters and activations of tensor parallelism lie, in canonical order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import jax

from conformance.contract.budget import Allowance
from conformance.contract.placements import Placements, Shard
from suites.tensor import budget
from suites.tensor.layout import TensorLayout, positions
from suites.training.jax.automatic import AutomaticTraining
from suites.training.state_layout import Positions


class TensorAnnotations(TensorLayout, AutomaticTraining):
    """Stored in canonical order: the partitioner handles fused sections and heads; padding is at the end.

    Key heads that are fewer than the devices are replicated, not repeated.
    """

    sizes: ClassVar[type[budget.TensorSizes]] = budget.TensorSizes  # what the formulas of the budget are made of

    def sections(self, name: str, size: int) -> list[tuple[int, int]]:
        return [(size, 1)]

    def placements(self, name: str) -> Placements:
        is_key = name.rpartition(".")[0].endswith((".key", ".value"))
        if is_key and self.contract.model.num_kv_heads % self.tensor_size():
            return {}
        return super().placements(name)

    def positions(self, name: str) -> Positions:
        """Padding of a parameter, or of an output that is sharded along its last dim."""
        if not name.startswith("outputs/"):
            return super().positions(name) if name in self.contract.shapes else {}
        if name not in self.output_placements():
            return {}
        model = self.contract.model
        dim, size = (2, model.vocabulary) if name == "outputs/logits" else (1, model.outputs)
        return {dim: positions([(size, 1)], self.tensor_size())} if size % self.tensor_size() else {}

    def budget(self) -> Iterable[Allowance] | None:
        return budget.OF_KIND[self.contract.model.kind](self.sizes(self))

    def on_tensor(self, x: jax.Array, dim: int) -> jax.Array:
        """x sharded by rows, and along dim over the tensor axis."""
        return self.constrain(x, {**self.row_placements(), self.tensor_axis: Shard(dim)})
