"""Self-attention on a rank's heads, between linear layers that DTensor divides.

B: rows  S: query tokens  T: key tokens  D: hidden  H: this rank's query heads  K: key heads it holds  E: head size
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, PrepareModuleInput, RowwiseParallel

from reference.architecture import Architecture
from suites.tensor.torch_dtensor.division import (
    Quadratic,
    ReplicatedParallel,
    ReplicatedParameters,
    TensorByDTensor,
    partly_used,
)
from suites.training import torch_layers as layers
from suites.training.torch_state import Named
from suites.training.traffic import Transfer


class HeadNorm(nn.Module):
    """RMS norm over each head; one gain for all heads, so that a rank has only its heads' part of the gradient."""

    def __init__(self, model: Architecture, wide: torch.dtype) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(model.head_size))
        self.epsilon, self.wide = model.norm_epsilon, wide

    def forward(self, x_BSHE: Tensor) -> Tensor:
        return layers.rms_norm(x_BSHE, partly_used(self.gain), self.epsilon, self.wide)


class AttentionModule(nn.Module):
    """Attention of the heads of one rank among `ranks`; 0 and 1 for a model on one device."""

    def __init__(self, model: Architecture, wide: torch.dtype, rank: int, ranks: int) -> None:
        super().__init__()
        self.model, self.wide, self.rank, self.ranks = model, wide, rank, ranks
        query, key = model.heads * model.head_size, model.kv_heads * model.head_size
        if model.fused_qkv:
            self.qkv = nn.Linear(model.hidden, query + 2 * key, bias=model.bias)
        else:
            self.query = nn.Linear(model.hidden, query, bias=model.bias)
            self.key = nn.Linear(model.hidden, key, bias=model.bias)
            self.value = nn.Linear(model.hidden, key, bias=model.bias)
        if model.head_norm:
            self.query_norm, self.key_norm = HeadNorm(model, wide), HeadNorm(model, wide)
        self.output = nn.Linear(query, model.hidden, bias=model.bias)

    def forward(self, x_BSD: Tensor, padding_BS: Tensor) -> Tensor:
        q_BSHE, k_BSKE, v_BSKE = (part.unflatten(-1, (-1, self.model.head_size)) for part in self.projected(x_BSD))
        positions_S = torch.arange(q_BSHE.shape[1])
        if self.model.head_norm:
            q_BSHE, k_BSKE = self.query_norm(q_BSHE), self.key_norm(k_BSKE)
        if self.model.positions == "rotary":
            q_BSHE, k_BSKE = (layers.rotary(x, positions_S, self.model.rotary_base) for x in (q_BSHE, k_BSKE))
        k_BSHE, v_BSHE = self.of_each_query(k_BSKE), self.of_each_query(v_BSKE)
        visible_BST = layers.visible(positions_S, positions_S, padding_BS, None, self.model.causal)
        return self.output(layers.attend(q_BSHE, k_BSHE, v_BSHE, visible_BST, self.wide).flatten(2))

    def projected(self, x_BSD: Tensor) -> tuple[Tensor, ...]:
        if not self.model.fused_qkv:
            return self.query(x_BSD), self.key(x_BSD), self.value(x_BSD)
        query, key = (heads // self.ranks * self.model.head_size for heads in (self.model.heads, self.model.kv_heads))
        return self.qkv(x_BSD).split([query, key, key], dim=-1)

    def of_each_query(self, k_BSKE: Tensor) -> Tensor:
        """The key head of each of this rank's query heads, from its own key heads or from all of them."""
        model, local = self.model, self.model.heads // self.ranks
        heads = torch.arange(local) // (model.heads // model.kv_heads)
        if k_BSKE.shape[2] == model.kv_heads:
            heads = (torch.arange(local) + self.rank * local) // (model.heads // model.kv_heads)
        return k_BSKE.index_select(2, heads)


class DividedAttention(TensorByDTensor):
    """Query, key and value by columns, output by rows; key heads that are fewer than the ranks are held whole."""

    def attention_module(self) -> AttentionModule:
        """`DeviceMesh.get_local_rank` would not do: it counts by process number, like its process group."""
        rank = self.axis(self.tensor_axis).rank
        return AttentionModule(self.contract.model, self.master, rank, self.tensor_size())

    def attention_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        """The input becomes a DTensor once, so that its gradient is summed once."""
        key = ReplicatedParallel() if self.keys_are_replicated else ColwiseParallel()
        columns = (
            {"qkv": ColwiseParallel()}
            if self.contract.model.fused_qkv
            else {"query": ColwiseParallel(), "key": key, "value": key}
        )
        norms = ("query_norm", "key_norm") if self.contract.model.head_norm else ()
        parts = {**columns, **{norm: ReplicatedParameters() for norm in norms}, "output": RowwiseParallel()}
        enter = PrepareModuleInput(input_layouts=(Replicate(), None), desired_input_layouts=(Replicate(), None))
        return {path: enter, **{f"{path}.{name}": style for name, style in parts.items()}}

    def require_supported(self) -> None:
        self.require_whole_heads()
        super().require_supported()

    def transfers(self) -> Iterator[Transfer]:
        """Gradients of parameters that are held whole but partly used are summed in the backward pass of each slice."""
        yield from super().transfers()
        partly = ["query_norm", "key_norm"] + (["key", "value"] if self.keys_are_replicated else [])
        for name, shape in self.contract.shapes.items():
            if name.split(".")[-2] in partly:
                yield self.tensor_transfer("all_reduce", "backward", math.prod(shape), self.compute)


class OneAttention(nn.Module):
    def __init__(self, attention: AttentionModule) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, batch: Named) -> Named:
        return {"outputs/y": self.attention(batch["inputs"], batch["padding"])}


class Attention(Quadratic, DividedAttention):
    """The attention block by itself."""

    def build(self) -> nn.Module:
        return self.divided(OneAttention(self.attention_module()))

    def plan(self) -> Mapping[str, ParallelStyle]:
        return self.attention_plan("attention")

    def transfers(self) -> Iterator[Transfer]:
        yield from super().transfers()
        yield self.hidden_transfer("forward")
