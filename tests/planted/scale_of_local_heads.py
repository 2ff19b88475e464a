"""A decoder layer whose attention core takes its sizes from the heads at hand."""

import jax
import jax.numpy as jnp

from suites.tensor.jax_manual import transformer


class Program(transformer.Layer):
    def attend(self, q_BSHE, k_BTKE, v_BTKE, batch):
        heads = q_BSHE.shape[2]
        group = heads // k_BTKE.shape[2]
        k_BTHE, v_BTHE = jnp.repeat(k_BTKE, group, axis=2), jnp.repeat(v_BTKE, group, axis=2)
        scale = (self.contract.model.hidden // heads) ** -0.5
        scores_BHST = jnp.einsum("bshe,bthe->bhst", q_BSHE, k_BTHE).astype(self.master) * scale
        scores_BHST = jnp.where(self.visible(batch)[:, None], scores_BHST, -jnp.inf)
        weights_BHST = jax.nn.softmax(scores_BHST, axis=-1).astype(v_BTHE.dtype)
        return jnp.einsum("bhst,bthe->bshe", weights_BHST, v_BTHE)
