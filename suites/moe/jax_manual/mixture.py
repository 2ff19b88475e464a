"""A mixture of experts under `shard_map`: what its rows have in common with those of other devices.

B: rows  S: tokens of a row  E: experts  K: choices of a token
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp

from conformance.contract.implementation import CollectiveKind, Phase
from suites.moe.jax import routing
from suites.moe.jax.routed import RoutedBlock
from suites.moe.layout import TERMS
from suites.tensor.jax_manual.transformer import DecoderLayers
from suites.training.jax.state import Named
from suites.training.traffic import Transfer


class MixtureBlock(RoutedBlock, DecoderLayers):
    """Every device routes its own rows; places of a whole slice are counted over all devices."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        return self.with_terms(*super().forward(p, batch))  # type: ignore[safe-super]

    def numbered_in_slice(self, choices_BSK: jax.Array) -> jax.Array:
        """How many of the whole slice come before each choice at its expert, the rows of a device after those before.

        Other devices' earlier choices come before, and of the same choice those of the devices in front of this one.
        """
        asked_BSKE = choices_BSK[..., None] == jnp.arange(self.contract.model.experts)
        own_KE = jnp.sum(asked_BSKE, axis=(0, 1), dtype=jnp.int32)
        every_RKE = self.counts_of_devices(own_KE)
        in_front_R11 = (jnp.arange(len(every_RKE)) < self.row_place())[:, None, None]
        others_KE = every_RKE.sum(0) - own_KE
        ahead_KE = jnp.cumsum(others_KE, axis=0) - others_KE + jnp.sum(every_RKE * in_front_R11, axis=0)
        own_BSK = routing.numbered(choices_BSK.reshape(1, -1, choices_BSK.shape[2]), self.contract.model.experts)
        return own_BSK.reshape(choices_BSK.shape) + jnp.sum(asked_BSKE * ahead_KE, axis=-1)

    def counts_of_devices(self, own_KE: jax.Array) -> jax.Array:
        """[R, K, E]: what the rows of each device ask for, devices in the order of their rows."""
        counts_RKE = own_KE[None]
        for axis in reversed(self.active(self.row_axes)):
            counts_RKE = jax.lax.all_gather(counts_RKE, axis, axis=0, tiled=True)
        return counts_RKE

    def row_place(self) -> jax.Array | int:
        """Place of this device among those that divide the rows."""
        place: jax.Array | int = 0
        for axis in self.row_axes:
            place = place * self.mesh.size(axis) + self.axis_rank(axis)
        return place

    def summed_scalars(self) -> int:
        return super().summed_scalars() + len(TERMS)

    def exchanges(self, elements: int) -> Iterator[Transfer]:
        """Of so many elements for each row: all-to-alls there and back, and the sums over features of experts.

        Gradients go the same ways.
        """
        again = int(self.recomputes)
        collectives: tuple[tuple[CollectiveKind, str, int, int], ...] = (
            ("all_to_all", self.expert_axis, 2, 2 + 2 * again),
            ("all_reduce", self.tensor_axis, 1, 1 + again),
        )
        for kind, axis, forward, backward in collectives:
            for rows in self.device_slices:
                yield self.in_mixtures(kind, axis, "forward", rows * elements, forward)
                yield self.in_mixtures(kind, axis, "backward", rows * elements, backward)

    def in_mixtures(self, kind: CollectiveKind, axis: str, phase: Phase, elements: int, calls: int) -> Transfer:
        """In every mixture, `calls` collectives in one slice of the batch."""
        calls, dtype = calls * len(self.mixtures), self.compute
        return Transfer(kind=kind, axes=(axis,), phase=phase, elements=elements, dtype=dtype, calls=calls)

    def statistics(self, phase: Phase) -> Iterator[Transfer]:
        """Sums over the data axes in every slice: of tokens or rows, of choices."""
        number, slices = len(self.mixtures), self.contract.recipe.accumulation
        yield replace(self.update_sum(self.data_axes, 1, 2 * number * slices), phase=phase)
        if self.contract.model.balance_scope == "batch":
            yield replace(self.update_sum(self.data_axes, self.contract.model.experts, number * slices), phase=phase)

    def transfers(self) -> Iterator[Transfer]:
        """Loads as they are observed, the weight of every slice, and what the terms of the loss are means of."""
        yield from super().transfers()
        yield self.update_sum(self.data_axes, self.contract.model.experts, len(self.mixtures))
        yield replace(self.update_sum(self.data_axes, 1, self.contract.recipe.accumulation), phase="forward")
        for phase in ("forward", "backward") if self.recomputes else ("forward",):
            yield from self.statistics(phase)
            yield from self.count_transfers(phase)

    def count_transfers(self, phase: Phase) -> Iterator[Transfer]:
        """What every device's rows ask for, where places are those of a slice."""
        model, elements = self.contract.model, self.contract.model.top_k * self.contract.model.experts
        for axis in reversed(self.row_axes) if model.capacity_factor and model.capacity_scope == "batch" else ():
            elements *= self.mesh.size(axis)
            calls = self.contract.recipe.accumulation
            yield replace(self.in_mixtures("all_gather", axis, phase, elements, calls), dtype="int32")
