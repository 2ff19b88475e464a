"""Attention by annotation: heads are sharded over the tensor axis.

B: rows  S: query tokens  T: key tokens  D: hidden  H: query heads  K: key heads  E: head size
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.tensor.jax_automatic.linear import LinearLayers
from suites.training.jax import layers
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named
from suites.training.jax.tokens import Tokens


class AttentionBlock(LinearLayers, Tokens):
    """The attention of one device, with heads annotated."""

    def attention(self, x_BSD: jax.Array, batch: Named, name: str, p: Named) -> jax.Array:
        model = self.contract.model
        q_BSHE, k_BTKE, v_BTKE = self.query_key_value(x_BSD, name, p)
        if model.head_norm:
            q_BSHE = layers.rms_norm(q_BSHE, p[f"{name}.query_norm.scale"], model.norm_epsilon, self.master)
            k_BTKE = layers.rms_norm(k_BTKE, p[f"{name}.key_norm.scale"], model.norm_epsilon, self.master)
        if model.positions == "rotary":
            q_BSHE, k_BTKE = self.rotate(q_BSHE), self.rotate(k_BTKE)
        group = model.num_heads // model.num_kv_heads
        k_BTHE, v_BTHE = jnp.repeat(k_BTKE, group, axis=2), jnp.repeat(v_BTKE, group, axis=2)
        q_BSHE, k_BTHE, v_BTHE = (self.on_tensor(each, 2) for each in (q_BSHE, k_BTHE, v_BTHE))
        attend = self.recomputed_core(lambda q, k, v, batch: layers.attend(q, k, v, self.visible(batch), self.master))
        mixed_BSHE = attend(q_BSHE, k_BTHE, v_BTHE, batch)
        mixed_BSD = self.on_tensor(mixed_BSHE.reshape(*x_BSD.shape[:2], -1), 2)
        return self.on_rows(self.linear(mixed_BSD, f"{name}.output", p))

    def rotate(self, x_BSHE: jax.Array) -> jax.Array:
        return layers.rotary(x_BSHE, self.block_positions(), self.contract.model.rotary_base)

    def query_key_value(self, x_BSD: jax.Array, name: str, p: Named) -> list[jax.Array]:
        model = self.contract.model
        if model.fused_qkv:
            ends = [model.num_heads * model.head_size, (model.num_heads + model.num_kv_heads) * model.head_size]
            projections = jnp.split(self.linear(x_BSD, f"{name}.qkv", p), ends, axis=-1)
        else:
            projections = [self.linear(x_BSD, f"{name}.{part}", p) for part in ("query", "key", "value")]
        return [part.reshape(*part.shape[:2], -1, model.head_size) for part in projections]

    def require_supported(self) -> None:
        super().require_supported()
        self.require_whole_heads()


class Attention(QuadraticLoss, AttentionBlock):
    """One attention block by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        inputs_BSD = batch["inputs"].astype(self.compute)
        y_BSD = self.attention(inputs_BSD, batch, "attention", self.canonical(p))
        return *self.quadratic(y_BSD, batch), {"outputs/y": y_BSD}
