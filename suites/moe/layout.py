"""How expert parallelism stores a mixture: its experts in chunks over the expert axis, in the order of their numbers.

Framework-neutral. Where there is a tensor axis too, the hidden features of every expert are sharded over it, as those
of a dense block are. Tokens are sharded over the data and the expert axis alike: every device routes its own rows, and
an exchange over the expert axis brings each token to the devices of its experts and back.
Source: Lepikhin et al., GShard, section 3.2.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard, sharded_dim
from reference.architecture import has_mixture, is_router_bias, mixtures, places
from suites.tensor.layout import positions
from suites.training.state_layout import OBSERVED, Positions, StateLayout

TERMS = ("balance_loss", "router_z_loss")  # of the loss: means over all mixtures of a model


class ExpertLayout(StateLayout):
    """A mixin for a training step: dim 0 of every stack of experts is sharded over the expert axis."""

    expert_axis: ClassVar[str] = "expert"
    row_axes: ClassVar[tuple[str, ...]] = ("data", "expert")
    model_axes: ClassVar[tuple[str, ...]] = ("tensor", "expert")

    def expert_size(self) -> int:
        return self.mesh.size(self.expert_axis)

    @property
    def experts_here(self) -> int:
        """Experts that a device stores, those that only fill up the last devices among them."""
        return -(-self.contract.model.experts // self.expert_size())

    @property
    def routed_length(self) -> int:
        """Tokens of a row that a device routes."""
        return self.row_length

    @property
    def mixtures(self) -> tuple[str, ...]:
        return mixtures(self.contract.model)

    def second_block(self, layer: str) -> str:
        """A mixture, or a dense block where the model has none in this layer."""
        number = layer.rpartition(".")[2]
        has_one = has_mixture(self.contract.model, int(number) if number.isdigit() else 0)
        return "moe" if has_one else super().second_block(layer)  # type: ignore[misc]

    @property
    def dense_blocks(self) -> int:
        """A shared expert is a dense block."""
        blocks: int = super().dense_blocks  # type: ignore[misc]
        return blocks - (0 if self.contract.model.shared_ffn else len(self.mixtures))

    # Parameters.

    def placements(self, name: str) -> Placements:
        """In a stack of experts, other axes divide one dim further than in a dense block."""
        others = super().placements(name)
        if not is_expert(name):
            return others
        further = {axis: Shard((sharded_dim(placement) or 0) + 1) for axis, placement in others.items()}
        return {self.expert_axis: Shard(0), **further}

    def positions(self, name: str) -> Positions:
        if name.startswith(OBSERVED):
            return {**super().positions(name), **self.row_positions}
        return {**super().positions(name), **(self.expert_positions if is_expert(name) else {})}

    @cached_property
    def expert_positions(self) -> Positions:
        """Numbers of the experts as they are stored, -1 for those that only fill up the last devices."""
        experts = self.contract.model.experts
        stored = positions([(experts, 1)], self.expert_size())
        return {} if np.array_equal(stored, np.arange(experts)) else {0: stored}

    # Rows.

    @cached_property
    def row_order(self) -> np.ndarray:
        """Rows as devices hold them: of every slice of the batch each device has its part, one slice after the other.

        A balance of loads is that of a slice, so that devices must agree on which rows it has.
        """
        rows, parts = self.contract.batch_shapes["mask"][0], self.size(self.row_axes)
        ends = np.cumsum(self.slice_sizes(rows))
        slices = [part.reshape(parts, -1) for part in np.split(np.arange(rows), ends[:-1])]
        return np.concatenate(slices, axis=1).reshape(-1)

    def batch_positions(self, key: str) -> Positions:
        return {**super().batch_positions(key), **self.row_positions}

    @property
    def row_positions(self) -> Positions:
        order = self.row_order
        return {} if np.array_equal(order, np.arange(len(order))) else {0: order}

    # Gradients and refusals.

    def is_learned(self, name: str) -> bool:
        """The bias of a router only decides, and what a decision is made of has no gradient."""
        return not is_router_bias(name) and super().is_learned(name)

    def axes_of_gradient(self, name: str) -> tuple[str, ...]:
        """The gradient of an expert is of all tokens that came to it, from wherever along the expert axis."""
        axes: tuple[str, ...] = super().axes_of_gradient(name)  # type: ignore[misc]
        return tuple(axis for axis in axes if axis != self.expert_axis) if is_expert(name) else axes

    @property
    def places_in_row(self) -> int:
        """Tokens of one row that an expert takes at most; all, where places are counted over a slice."""
        of_row = self.contract.model.capacity_scope == "row"
        return (places(self.contract.model, self.row_length) if of_row else None) or self.row_length

    def places_in_slice(self, choices: Any) -> int:
        """Tokens of a slice that an expert takes at most, `choices` [B, S, K] being those of this device's rows."""
        tokens = choices.shape[0] * choices.shape[1] * self.size(self.row_axes)
        return places(self.contract.model, tokens) or tokens

    def compute_axes(self) -> tuple[str, ...]:
        """How much an expert computes depends on how many tokens are routed to it."""
        return ()

    def require_supported(self) -> None:
        super().require_supported()
        if self.contract.recipe.optimizer == "muon":
            raise Unsupported("A mixture of experts is trained with SGD or AdamW here, not with Muon.")
        model = self.contract.model
        if self.size(self.token_axes) > 1 and (model.capacity_factor or model.balance_scope == "row"):
            raise Unsupported(
                f"A capacity or a balance counted row by row needs whole rows, and {' and '.join(self.token_axes)} "
                "divides them."
            )


def is_expert(name: str) -> bool:
    """Whether a parameter is a stack of those of all experts."""
    return ".experts." in name
