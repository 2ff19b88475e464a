"""Exchange in buffers of fixed size: every expert has so many places for the tokens of each device.

N: choices of a device, rows x tokens x K  C: places of an expert for one device  R: devices of the expert axis
E: experts of this device  D: hidden  F: hidden features of an expert on this device
Source: Lepikhin et al., GShard, algorithm 1.
"""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from suites.moe.jax import routing
from suites.moe.jax_manual.mixture import MixtureBlock
from suites.moe.jax_manual.models import Alone
from suites.moe.step_budget import CAPACITY
from suites.tensor.jax_manual import transformer
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets


class CapacityExchange(MixtureBlock):
    """All-to-all of whole buffers, there and back. Unused places hold zeros and are never read back."""

    sends: ClassVar[Budgets] = CAPACITY

    def exchanged(self, read_BSKD: jax.Array, admitted_BSK: jax.Array, name: str, p: Named) -> jax.Array:
        places_N = self.buffer_places(admitted_BSK).reshape(-1)
        rows = len(read_BSKD) * self.places_in_row
        buffer = jnp.zeros((self.expert_size() * self.experts_here * rows, read_BSKD.shape[-1]), read_BSKD.dtype)
        buffer = buffer.at[places_N].set(read_BSKD.reshape(len(places_N), -1), mode="drop")
        arrived_REC = self.all_to_all(buffer.reshape(self.expert_size(), self.experts_here, rows, -1))
        said_RECD = self.expert_blocks(arrived_REC, name, p)
        returned = self.all_to_all(said_RECD).reshape(buffer.shape)
        return returned.at[places_N].get(mode="fill", fill_value=0).reshape(read_BSKD.shape)

    def buffer_places(self, admitted_BSK: jax.Array) -> jax.Array:
        """Where in the buffer each choice stands: by expert, row and number; beyond its end for a choice of -1."""
        rows = admitted_BSK.shape[0]
        number_BSK = routing.numbered(admitted_BSK, self.contract.model.experts)
        row_B11 = jnp.arange(rows)[:, None, None]
        place_BSK = (admitted_BSK * rows + row_B11) * self.places_in_row + number_BSK
        end = self.expert_size() * self.experts_here * rows * self.places_in_row
        return jnp.where(admitted_BSK >= 0, place_BSK, end)

    def all_to_all(self, x_RECD: jax.Array) -> jax.Array:
        """Block r of dim 0 goes to device r; what comes from device r is block r."""
        if self.expert_size() == 1:
            return x_RECD
        return jax.lax.all_to_all(x_RECD, self.expert_axis, split_axis=0, concat_axis=0)

    def expert_blocks(self, x_RECD: jax.Array, name: str, p: Named) -> jax.Array:
        """Every expert of this device on all places of its buffers."""
        x_RECD = self.copy_to_tensor(x_RECD)
        if self.contract.model.activation == "gelu":
            hidden = jax.nn.gelu(self.expert_linear(x_RECD, f"{name}.experts.up", p), approximate=True)
        else:
            gate, up = (self.expert_linear(x_RECD, f"{name}.experts.{part}", p) for part in ("gate", "up"))
            hidden = jax.nn.silu(gate) * up
        y_RECD = self.reduce_from_tensor(jnp.einsum("recf,efd->recd", hidden, p[f"{name}.experts.down.weight"]))
        bias = f"{name}.experts.down.bias"
        return y_RECD + p[bias][:, None] if bias in p else y_RECD

    def expert_linear(self, x_RECD: jax.Array, name: str, p: Named) -> jax.Array:
        y_RECF = jnp.einsum("recd,edf->recf", x_RECD, p[f"{name}.weight"])
        return y_RECF + p[f"{name}.bias"][:, None] if f"{name}.bias" in p else y_RECF


class Mixture(CapacityExchange, Alone):
    """One mixture by itself."""


class Layer(CapacityExchange, transformer.Layer):
    """One decoder layer."""


class LanguageModel(CapacityExchange, transformer.LanguageModel):
    """A decoder language model with mixtures in some of its layers."""
