"""Self-attention whose heads are sharded over the tensor axis.

B: rows  S: query tokens  T: key tokens  D: hidden  H: this rank's query heads  K: its key heads  E: head size
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from suites.tensor.torch_manual.linear import LinearLayers
from suites.training.torch import layers
from suites.training.torch.losses import QuadraticLoss
from suites.training.torch.state import Named
from suites.training.torch.tokens import Tokens


class AttentionBlock(LinearLayers, Tokens):
    """Query, key and value column-parallel, attention on this rank's heads, output row-parallel.

    Fewer key heads than ranks: each rank stores the key head of its query heads, and the gradients of the copies are
    summed. The norms of query and key heads have one scale for all heads, so each rank has a part of its gradient.
    """

    def attention(self, x_BSD: Tensor, batch: Named, name: str, p: Named) -> Tensor:
        q_BSHE, k_BSKE, v_BSKE = self.query_key_value(self.enter_block(x_BSD), name, p)
        if self.contract.model.head_norm:
            q_BSHE = self.head_norm(q_BSHE, f"{name}.query_norm", p)
            k_BSKE = self.head_norm(k_BSKE, f"{name}.key_norm", p)
        if self.contract.model.positions == "rotary":
            q_BSHE, k_BSKE = self.rotate(q_BSHE), self.rotate(k_BSKE)
        mixed_BSHE = self.recomputed_core(self.attend)(q_BSHE, k_BSKE, v_BSKE, batch)
        return self.row_linear(mixed_BSHE.flatten(2), f"{name}.output", p)

    def query_key_value(self, x_BSD: Tensor, name: str, p: Named) -> list[Tensor]:
        """This rank's query, key and value heads."""
        if self.contract.model.fused_qkv:
            projections = self.split_fused(self.column_linear(x_BSD, f"{name}.qkv", p))
        else:
            projections = [self.column_linear(x_BSD, f"{name}.{part}", p) for part in ("query", "key", "value")]
        return [part.unflatten(-1, (-1, self.contract.model.head_size)) for part in projections]

    def split_fused(self, qkv: Tensor) -> list[Tensor]:
        """[query heads | key heads | value heads] of this rank."""
        model = self.contract.model
        query = model.num_heads // self.tensor_size() * model.head_size
        key = (qkv.shape[-1] - query) // 2
        return list(qkv.split([query, key, key], dim=-1))

    def head_norm(self, x_BSHE: Tensor, name: str, p: Named) -> Tensor:
        return layers.rms_norm(x_BSHE, p[f"{name}.scale"], self.contract.model.norm_epsilon, self.master)

    def rotate(self, x_BSHE: Tensor) -> Tensor:
        return layers.rotary(x_BSHE, self.block_positions(), self.contract.model.rotary_base)

    def attend(self, q_BSHE: Tensor, k_BTKE: Tensor, v_BTKE: Tensor, batch: Named) -> Tensor:
        """Each query head attends with the key head of its group."""
        group = q_BSHE.shape[2] // k_BTKE.shape[2]
        k_BTHE, v_BTHE = k_BTKE.repeat_interleave(group, 2), v_BTKE.repeat_interleave(group, 2)
        return layers.attend(q_BSHE, k_BTHE, v_BTHE, self.visible(batch), self.master)

    def sum_gradient(self, name: str, g: Tensor) -> Tensor:
        if name in self.repeated:
            g = self.reduced(g, partial(self.sum_repeats, name))
        return super().sum_gradient(name, g)

    def require_supported(self) -> None:
        super().require_supported()
        self.require_whole_heads()


class Attention(QuadraticLoss, AttentionBlock):
    """The attention block by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        y_BSD = self.attention(batch["inputs"], batch, "attention", p)
        return *self.quadratic(y_BSD, batch), {"outputs/y": y_BSD}
