"""Self-attention on a rank's heads, between linear layers that DTensor divides.

B: rows  S: query tokens  T: key tokens  D: hidden  H: this rank's query heads  K: key heads it holds  E: head size
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, PrepareModuleInput, RowwiseParallel

from reference.architecture import Architecture
from suites.tensor.torch_dtensor.sharding import (
    Quadratic,
    ReplicatedParallel,
    ReplicatedParameters,
    TensorByDTensor,
    partly_used,
)
from suites.training.torch import layers
from suites.training.torch.state import Named


class HeadNorm(nn.Module):
    """RMS norm over each head; one scale for all heads, so that a rank has only its heads' part of the gradient."""

    def __init__(self, model: Architecture, wide: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(model.head_size))
        self.epsilon, self.wide = model.norm_epsilon, wide

    def forward(self, x_BSHE: Tensor) -> Tensor:
        return layers.rms_norm(x_BSHE, partly_used(self.scale), self.epsilon, self.wide)


class AttentionModule(nn.Module):
    """Attention of the heads of one rank; `tokens` knows what its tokens see and where they stand."""

    def __init__(self, tokens: TensorByDTensor) -> None:
        super().__init__()
        self.tokens, self.model = tokens, tokens.contract.model
        model, wide = self.model, tokens.master
        query, key = model.num_heads * model.head_size, model.num_kv_heads * model.head_size
        if model.fused_qkv:
            self.qkv = nn.Linear(model.hidden, query + 2 * key, bias=model.bias)
        else:
            self.query = nn.Linear(model.hidden, query, bias=model.bias)
            self.key = nn.Linear(model.hidden, key, bias=model.bias)
            self.value = nn.Linear(model.hidden, key, bias=model.bias)
        if model.head_norm:
            self.query_norm, self.key_norm = HeadNorm(model, wide), HeadNorm(model, wide)
        self.output = nn.Linear(query, model.hidden, bias=model.bias)

    def forward(self, x_BSD: Tensor, batch: Named) -> Tensor:
        q_BSHE, k_BSKE, v_BSKE = (part.unflatten(-1, (-1, self.model.head_size)) for part in self.projected(x_BSD))
        if self.model.head_norm:
            q_BSHE, k_BSKE = self.query_norm(q_BSHE), self.key_norm(k_BSKE)
        if self.model.positions == "rotary":
            positions_S = self.tokens.block_positions()
            q_BSHE, k_BSKE = (layers.rotary(x, positions_S, self.model.rotary_base) for x in (q_BSHE, k_BSKE))
        k_BSHE, v_BSHE = self.of_each_query(k_BSKE), self.of_each_query(v_BSKE)
        mixed_BSHE = layers.attend(q_BSHE, k_BSHE, v_BSHE, self.tokens.visible(batch), self.tokens.master)
        return self.output(mixed_BSHE.flatten(2))

    def projected(self, x_BSD: Tensor) -> tuple[Tensor, ...]:
        if not self.model.fused_qkv:
            return self.query(x_BSD), self.key(x_BSD), self.value(x_BSD)
        ranks = self.tokens.tensor_size()
        query, key = (
            heads // ranks * self.model.head_size for heads in (self.model.num_heads, self.model.num_kv_heads)
        )
        return self.qkv(x_BSD).split([query, key, key], dim=-1)

    def of_each_query(self, k_BSKE: Tensor) -> Tensor:
        """The key head of each of this rank's query heads, from its own key heads or from all of them."""
        model, local = self.model, self.model.num_heads // self.tokens.tensor_size()
        heads = torch.arange(local) // (model.num_heads // model.num_kv_heads)
        if k_BSKE.shape[2] == model.num_kv_heads:
            heads = (torch.arange(local) + self.tokens.tensor_rank() * local) // (model.num_heads // model.num_kv_heads)
        return k_BSKE.index_select(2, heads)


class ShardedAttention(TensorByDTensor):
    """Query, key and value by columns, output by rows; key heads that are fewer than the ranks are held whole."""

    def attention_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        """The input becomes a DTensor once, so that its gradient is summed once."""
        key = ReplicatedParallel() if self.keys_are_replicated else ColwiseParallel()
        columns = (
            {"qkv": ColwiseParallel()}
            if self.contract.model.fused_qkv
            else {"query": ColwiseParallel(), "key": key, "value": key}
        )
        norms = ("query_norm", "key_norm") if self.contract.model.head_norm else ()
        parts = {
            **columns,
            **{norm: ReplicatedParameters() for norm in norms},
            "output": RowwiseParallel(output_layouts=self.stream),
        }
        enter = PrepareModuleInput(input_layouts=(self.stream, None), desired_input_layouts=(Replicate(), None))
        return {path: enter, **{f"{path}.{name}": style for name, style in parts.items()}}

    def require_supported(self) -> None:
        self.require_whole_heads()
        super().require_supported()


class OneAttention(nn.Module):
    def __init__(self, attention: AttentionModule) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, batch: Named) -> Named:
        return {"outputs/y": self.attention(batch["inputs"], batch)}


class Attention(Quadratic, ShardedAttention):
    """The attention block by itself."""

    def build(self) -> nn.Module:
        return self.sharded(OneAttention(AttentionModule(self)))

    def plan(self) -> Mapping[str, ParallelStyle]:
        return self.attention_plan("attention")
