"""Dropless exchange: choices are sorted by expert, and an expert computes the tokens sent to it and no others.

A program has fixed shapes: a device sends every other one as many rows as it could have at most, and the numbers of
those that count. On arrival they are put in the order of the experts here, for one grouped product.

N: choices of a device, rows x tokens x K  R: devices of the expert axis  E: experts of this device  D: hidden
F: hidden features of an expert on this device
Source: Gale et al., MegaBlocks, sections 3 and 4, for products of groups of uneven size.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from suites.moe.jax_manual.mixture import MixtureBlock
from suites.moe.jax_manual.models import Alone
from suites.moe.step_budget import RAGGED
from suites.tensor.jax_manual import transformer
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets


class RaggedExchange(MixtureBlock):
    """All-to-all of sorted rows, there and back."""

    sends: ClassVar[Budgets] = RAGGED

    def exchanged(self, read_BSKD: jax.Array, admitted_BSK: jax.Array, name: str, p: Named) -> jax.Array:
        experts_N = jnp.where(admitted_BSK >= 0, admitted_BSK, self.expert_size() * self.experts_here).reshape(-1)
        order_N = jnp.argsort(experts_N, stable=True)
        sorted_ND = read_BSKD.reshape(-1, read_BSKD.shape[-1])[order_N]
        counts_RE = self.counts(experts_N)
        sent_RND, places_N = self.addressed(sorted_ND, experts_N[order_N], counts_RE)
        said_RND = self.grouped(self.all_to_all(sent_RND), self.all_to_all(counts_RE), name, p)
        returned = self.all_to_all(said_RND).reshape(-1, sorted_ND.shape[-1])
        said_ND = returned.at[places_N].get(mode="fill", fill_value=0)
        return self.unsorted(said_ND, order_N).reshape(read_BSKD.shape)

    def counts(self, experts_N: jax.Array) -> jax.Array:
        """Choices of this device by expert: [device, expert there]."""
        numbers = jnp.arange(self.expert_size() * self.experts_here)
        asked_NE = (experts_N[:, None] == numbers).astype(jnp.int32)
        return jnp.sum(asked_NE, axis=0, dtype=jnp.int32).reshape(self.expert_size(), self.experts_here)

    def addressed(
        self, sorted_ND: jax.Array, experts_N: jax.Array, counts_RE: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """A block of rows for each device, and the place of each choice in them, beyond the end for a choice of -1."""
        number, devices = len(sorted_ND), self.expert_size()
        to_N = experts_N // self.experts_here
        starts_R = jnp.cumsum(counts_RE.sum(1)) - counts_RE.sum(1)
        places_N = to_N * number + jnp.arange(number) - starts_R[jnp.minimum(to_N, devices - 1)]
        places_N = jnp.where(to_N < devices, places_N, devices * number)
        blocks = jnp.zeros((devices * number, sorted_ND.shape[-1]), sorted_ND.dtype)
        return blocks.at[places_N].set(sorted_ND, mode="drop").reshape(devices, number, -1), places_N

    def all_to_all(self, x: jax.Array) -> jax.Array:
        """Block r of dim 0 goes to device r; what comes from device r is block r."""
        return jax.lax.all_to_all(x, self.expert_axis, 0, 0) if self.expert_size() > 1 else x

    def grouped(self, arrived_RND: jax.Array, counts_RE: jax.Array, name: str, p: Named) -> jax.Array:
        """The outputs of this device's experts for the received rows, in the order of arrival."""
        ends_RE, place_N = jnp.cumsum(counts_RE, axis=1), jnp.arange(arrived_RND.shape[1])
        experts_RN = jnp.sum(place_N[None, :, None] >= ends_RE[:, None], axis=-1)  # as many as there are: padding
        order = jnp.argsort(experts_RN.reshape(-1), stable=True)
        rows = arrived_RND.reshape(len(order), -1)[order]
        said = self.expert_blocks(rows, experts_RN.reshape(-1)[order], counts_RE.sum(0), name, p)
        return self.unsorted(said, order).reshape(arrived_RND.shape)

    def unsorted(self, sorted_rows: jax.Array, order: jax.Array) -> jax.Array:
        """The inverse of `rows[order]`."""
        return sorted_rows[jnp.argsort(order)]

    def expert_blocks(self, x: jax.Array, experts: jax.Array, counts_E: jax.Array, name: str, p: Named) -> jax.Array:
        """Rows in the order of their experts, of which there are `counts_E`; what is behind them is padding."""
        x, counts_E = self.copy_to_tensor(x), counts_E.astype(jnp.int32)
        if self.contract.model.activation == "gelu":
            hidden = jax.nn.gelu(self.expert_linear(x, experts, counts_E, f"{name}.experts.up", p), approximate=True)
        else:
            gate = self.expert_linear(x, experts, counts_E, f"{name}.experts.gate", p)
            hidden = jax.nn.silu(gate) * self.expert_linear(x, experts, counts_E, f"{name}.experts.up", p)
        y = self.reduce_from_tensor(jax.lax.ragged_dot(hidden, p[f"{name}.experts.down.weight"], counts_E))
        return self.with_bias(y, experts, f"{name}.experts.down.bias", p)

    def expert_linear(self, x: jax.Array, experts: jax.Array, counts_E: jax.Array, name: str, p: Named) -> jax.Array:
        y = jax.lax.ragged_dot(x, p[f"{name}.weight"], counts_E)
        return self.with_bias(y, experts, f"{name}.bias", p)

    def with_bias(self, y: jax.Array, experts: jax.Array, name: str, p: Named) -> jax.Array:
        return y + p[name].at[experts].get(mode="fill", fill_value=0) if name in p else y


class Mixture(RaggedExchange, Alone):
    """One mixture by itself."""


class Layer(RaggedExchange, transformer.Layer):
    """One decoder layer."""


class LanguageModel(RaggedExchange, transformer.LanguageModel):
    """A decoder language model with mixtures in some of its layers."""
