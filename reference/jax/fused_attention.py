"""Attention differentiated as fused kernels do it: the sum in the gradient of the softmax is taken over outputs.

Law: sum_t weight_t dweight_t = sum_e out_e dout_e. The two sums are the same number in exact arithmetic. In floating
point the first one cancels exactly where one key has all the weight, and the second one does not.
Source: Dao et al., FlashAttention, 2022, appendix B.2.

B: rows  S: query tokens  T: key tokens  H: heads  E: head size
"""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def attend(
    q_BSHE: jax.Array, k_BTHE: jax.Array, v_BTHE: jax.Array, visible_BST: jax.Array, statistics: str
) -> jax.Array:
    """softmax(q k' / sqrt(E)) v over visible keys, the softmax in `statistics`; as many key heads as query heads."""
    return _forward(q_BSHE, k_BTHE, v_BTHE, visible_BST, statistics)[0]


def _forward(
    q_BSHE: jax.Array, k_BTHE: jax.Array, v_BTHE: jax.Array, visible_BST: jax.Array, statistics: str
) -> tuple[jax.Array, Residuals]:
    scores_BHST = jnp.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).astype(statistics) / math.sqrt(q_BSHE.shape[3])
    weights_BHST = jax.nn.softmax(jnp.where(visible_BST[:, None], scores_BHST, -jnp.inf), axis=-1)
    out_BSHE = jnp.einsum("bhst,bthe->bshe", weights_BHST.astype(v_BTHE.dtype), v_BTHE)
    return out_BSHE, (q_BSHE, k_BTHE, v_BTHE, weights_BHST, out_BSHE)


def _backward(statistics: str, saved: Residuals, dout_BSHE: jax.Array) -> tuple[jax.Array | None, ...]:
    q_BSHE, k_BTHE, v_BTHE, weights_BHST, out_BSHE = saved
    dtype = v_BTHE.dtype
    dv_BTHE = jnp.einsum("bhst,bshe->bthe", weights_BHST.astype(dtype), dout_BSHE)
    dweights_BHST = jnp.einsum("bshe,bthe->bhst", dout_BSHE, v_BTHE).astype(statistics)
    sum_BHS = jnp.einsum("bshe,bshe->bhs", dout_BSHE.astype(statistics), out_BSHE.astype(statistics))
    dscores_BHST = weights_BHST * (dweights_BHST - sum_BHS[..., None]) / math.sqrt(q_BSHE.shape[3])
    dscores_BHST = dscores_BHST.astype(dtype)
    dq_BSHE = jnp.einsum("bhst,bthe->bshe", dscores_BHST, k_BTHE)
    dk_BTHE = jnp.einsum("bhst,bshe->bthe", dscores_BHST, q_BSHE)
    return dq_BSHE, dk_BTHE, dv_BTHE, None


attend.defvjp(_forward, _backward)
