"""Ring attention whose query head h attends with key head h mod K, in place of h div (H / K)."""

import jax

from suites.sequence.jax_manual import ring
from suites.training.jax.state import Named


class Program(ring.Attention):
    def attend(self, q_BSHE: jax.Array, k_BTKE: jax.Array, v_BTKE: jax.Array, batch: Named) -> jax.Array:
        if self.context_size() == 1:
            return super().attend(q_BSHE, k_BTKE, v_BTKE, batch)
        own = ring.Tokens(self.block_positions(), batch["attention_mask"].astype(self.master), None)
        rows, length, _, size = q_BSHE.shape
        q_BSKGE = q_BSHE.reshape(rows, length, -1, k_BTKE.shape[2], size).swapaxes(2, 3)
        out_BSKGE = ring._attend(self, q_BSKGE, k_BTKE, v_BTKE, own)
        return out_BSKGE.swapaxes(2, 3).reshape(q_BSHE.shape).astype(q_BSHE.dtype)
