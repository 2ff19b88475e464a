"""Attention with its heads divided over the tensor axis: each device attends with its own heads, no one asks another.

B: rows  S: query tokens  T: key tokens  D: hidden  H: query heads of this device  K: its key heads  E: head size
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from suites.tensor.jax_manual.linear import LinearLayers
from suites.tensor.jax_manual.norms import Norms
from suites.training.jax_losses import QuadraticLoss
from suites.training.jax_state import Named
from suites.training.traffic import Transfer


class AttentionBlock(Norms, LinearLayers):
    """Column-parallel projections, attention with whole heads, row-parallel output.

    Head norms are shared by all heads, so that each device has only its heads' part of their gradient. A key head that
    several devices need is stored by each of them, and has on each only the gradient from that device's query heads.
    """

    def attention(self, x_BSD: jax.Array, padding_BS: jax.Array, name: str, p: Named) -> jax.Array:
        q_BSHE, k_BTKE, v_BTKE = self.query_key_value(self.enter_block(x_BSD), name, p)
        if self.contract.model.head_norm:
            q_BSHE = self.rms_norm(q_BSHE, f"{name}.query_norm", p)
            k_BTKE = self.rms_norm(k_BTKE, f"{name}.key_norm", p)
        if self.contract.model.positions == "rotary":
            q_BSHE, k_BTKE = self.rotate(q_BSHE), self.rotate(k_BTKE)
        mixed_BSHE = self.attend(q_BSHE, k_BTKE, v_BTKE, padding_BS)
        return self.row_linear(mixed_BSHE.reshape(*x_BSD.shape[:2], -1), f"{name}.output", p)

    def local_heads(self) -> tuple[int, int]:
        """Query and key heads of one device."""
        model, size = self.contract.model, self.tensor_size()
        return model.heads // size, max(model.kv_heads // size, 1)

    def query_key_value(self, x_BSD: jax.Array, name: str, p: Named) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The heads of this device. A fused projection holds its query, then its key, then its value heads."""
        heads, kv_heads = self.local_heads()
        if self.contract.model.fused_qkv:
            ends = np.cumsum([heads, kv_heads]) * self.contract.model.head_size
            parts = jnp.split(self.column_linear(x_BSD, f"{name}.qkv", p), ends, axis=-1)
        else:
            parts = [self.column_linear(x_BSD, f"{name}.{part}", p) for part in ("query", "key", "value")]
        q, k, v = (part.reshape(*x_BSD.shape[:2], -1, self.contract.model.head_size) for part in parts)
        return q, k, v

    def rotate(self, x_BSHE: jax.Array) -> jax.Array:
        """Rotate pairs (e, e + E/2) of token s by s / base^(2e/E) (Su et al., RoFormer, section 3.2.2)."""
        size = x_BSHE.shape[-1]
        rate_E = self.contract.model.rotary_base ** (-2 * np.arange(size // 2) / size)
        angle_SE = self.token_positions(x_BSHE.shape[1])[:, None] * rate_E
        cos, sin = (jnp.asarray(table, x_BSHE.dtype)[:, None] for table in (np.cos(angle_SE), np.sin(angle_SE)))
        first, second = jnp.split(x_BSHE, 2, axis=-1)
        return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)

    def token_positions(self, length: int) -> np.ndarray:
        """Where in its row each token of this device stands."""
        return np.arange(length)

    def attend(self, q_BSHE: jax.Array, k_BTKE: jax.Array, v_BTKE: jax.Array, padding_BT: jax.Array) -> jax.Array:
        """softmax(q k' / sqrt(E)) v over the visible keys, the softmax in the master dtype."""
        group = q_BSHE.shape[2] // k_BTKE.shape[2]
        k_BTHE, v_BTHE = jnp.repeat(k_BTKE, group, axis=2), jnp.repeat(v_BTKE, group, axis=2)
        scores_BHST = jnp.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).astype(self.master) / math.sqrt(q_BSHE.shape[-1])
        scores_BHST = jnp.where(self.visible(padding_BT)[:, None], scores_BHST, -jnp.inf)
        weights_BHST = jax.nn.softmax(scores_BHST, axis=-1).astype(v_BTHE.dtype)
        return jnp.einsum("bhst,bthe->bshe", weights_BHST, v_BTHE)

    def visible(self, padding_BT: jax.Array) -> jax.Array:
        """[B, S, T]: a token sees the real ones up to its own, and always itself."""
        causal_ST = np.tri(padding_BT.shape[1], dtype=bool)
        itself_ST = np.eye(padding_BT.shape[1], dtype=bool)
        return jnp.logical_or(causal_ST & (padding_BT > 0)[:, None, :], itself_ST)

    def sum_gradient(self, name: str, g: jax.Array) -> jax.Array:
        if self.is_shared_by_heads(name):
            g = self.sum_over_tensor(g)
        elif self.is_repeated(name):
            g = self.sum_repeats(name, g)
        return super().sum_gradient(name, g)

    def is_shared_by_heads(self, name: str) -> bool:
        return name.endswith((".query_norm.gain", ".key_norm.gain"))

    def require_supported(self) -> None:
        super().require_supported()
        self.require_whole_heads()

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        for name, shape in self.contract.shapes.items():
            if self.is_shared_by_heads(name) or self.is_repeated(name):
                yield self.update_sum((self.tensor_axis,), math.prod(shape))


class Attention(QuadraticLoss, AttentionBlock):
    """One attention block by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        y_BSD = self.attention(batch["inputs"].astype(self.compute), batch["padding"], "attention", p)
        return *self.quadratic(y_BSD, batch), {"outputs/y": y_BSD}

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        yield self.each_token("all_reduce", "forward", self.contract.model.hidden)
