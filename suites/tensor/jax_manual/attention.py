"""Attention with its heads sharded over the tensor axis: between the projections nothing is communicated.

B: rows  S: query tokens  T: key tokens  D: hidden  H: query heads of this device  K: its key heads  E: head size
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from suites.tensor.jax_manual.linear import LinearLayers
from suites.training.jax import layers
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named
from suites.training.jax.tokens import Tokens


class AttentionBlock(LinearLayers, Tokens):
    """Column-parallel projections, attention with whole heads, row-parallel output.

    Head norms are shared by all heads, so that each device has only its heads' part of their gradient. A key head that
    several devices need is stored by each of them, and has on each only the gradient from that device's query heads.
    """

    def attention(self, x_BSD: jax.Array, batch: Named, name: str, p: Named) -> jax.Array:
        q_BSHE, k_BTKE, v_BTKE = self.query_key_value(self.enter_block(x_BSD), name, p)
        if self.contract.model.head_norm:
            q_BSHE = self.head_norm(q_BSHE, f"{name}.query_norm", p)
            k_BTKE = self.head_norm(k_BTKE, f"{name}.key_norm", p)
        if self.contract.model.positions == "rotary":
            q_BSHE, k_BTKE = self.rotate(q_BSHE), self.rotate(k_BTKE)
        mixed_BSHE = self.recomputed_core(self.attend)(q_BSHE, k_BTKE, v_BTKE, batch)
        return self.row_linear(mixed_BSHE.reshape(*mixed_BSHE.shape[:2], -1), f"{name}.output", p)

    def query_key_value(self, x_BSD: jax.Array, name: str, p: Named) -> list[jax.Array]:
        """This device's query, key and value heads."""
        if self.contract.model.fused_qkv:
            projections = self.split_fused(self.column_linear(x_BSD, f"{name}.qkv", p))
        else:
            projections = [self.column_linear(x_BSD, f"{name}.{part}", p) for part in ("query", "key", "value")]
        return [part.reshape(*part.shape[:2], -1, self.contract.model.head_size) for part in projections]

    def split_fused(self, qkv: jax.Array) -> list[jax.Array]:
        """[query heads | key heads | value heads] of this device."""
        model = self.contract.model
        query = model.num_heads // self.tensor_size() * model.head_size
        key = (qkv.shape[-1] - query) // 2
        return jnp.split(qkv, [query, query + key], axis=-1)

    def head_norm(self, x_BSHE: jax.Array, name: str, p: Named) -> jax.Array:
        return layers.rms_norm(x_BSHE, p[f"{name}.scale"], self.contract.model.norm_epsilon, self.master)

    def rotate(self, x_BSHE: jax.Array) -> jax.Array:
        return layers.rotary(x_BSHE, self.block_positions(), self.contract.model.rotary_base)

    def attend(self, q_BSHE: jax.Array, k_BTKE: jax.Array, v_BTKE: jax.Array, batch: Named) -> jax.Array:
        """Each query head attends with the key head of its group."""
        group = q_BSHE.shape[2] // k_BTKE.shape[2]
        k_BTHE, v_BTHE = jnp.repeat(k_BTKE, group, axis=2), jnp.repeat(v_BTKE, group, axis=2)
        return layers.attend(q_BSHE, k_BTHE, v_BTHE, self.visible(batch), self.master)

    def sum_gradient(self, name: str, g: jax.Array) -> jax.Array:
        g = self.reduced(g, partial(self.sum_repeats, name)) if self.is_repeated(name) else g
        return super().sum_gradient(name, g)

    def require_supported(self) -> None:
        super().require_supported()
        self.require_whole_heads()


class Attention(QuadraticLoss, AttentionBlock):
    """One attention block by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        y_BSD = self.attention(batch["inputs"].astype(self.compute), batch, "attention", p)
        return *self.quadratic(y_BSD, batch), {"outputs/y": y_BSD}
