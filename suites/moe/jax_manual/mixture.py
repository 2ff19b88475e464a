"""A mixture of experts under `shard_map`: what its rows have in common with those of other devices.

B: rows  S: tokens of a row  E: experts  K: choices of a token
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.moe.jax import routing
from suites.moe.jax.routed import RoutedBlock
from suites.tensor.jax_manual.transformer import DecoderLayers
from suites.training.jax.state import Named


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
