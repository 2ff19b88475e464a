"""ZeRO stage 3, full sharding: parameters too are sharded over the shard axis, and whole only where they are used.

Law: a gather in the forward pass is a reduce-scatter of the gradient in the backward pass. The parameters of a decoder
layer are gathered when the layer begins and forgotten when it ends; its backward pass gathers them again. What belongs
to no layer (embedding, last norm, head) is gathered once for both passes. Every slice of the batch gathers anew, so no
gathered parameter outlives an update.
Sources: Rajbhandari et al., ZeRO, section 5.3; Zhao et al., PyTorch FSDP, sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from suites.data.layout import ParameterShards
from suites.data.step_budget import ZERO_3, evaluated, of_evaluated_parameters
from suites.data.torch_manual.contrastive import ContrastiveTowers
from suites.data.torch_manual.evaluation import Evaluation
from suites.data.torch_manual.sharding import ShardedGradients
from suites.tensor.torch_manual import linear, transformer
from suites.training.step_budget import Budgets
from suites.training.torch.state import Named

Convert = Callable[[Tensor], Tensor]
LAYERS = ("layers", "layer")  # the first word in the name of a parameter of a decoder layer


class GatherParameter(torch.autograd.Function):
    """A shard of a parameter -> the parameter, in the dtype of computation; its gradient is scattered."""

    @staticmethod
    def forward(
        ctx: Any, shard: Tensor, gather: Callable[[Tensor], Tensor], scatter: Callable[[Tensor], Tensor]
    ) -> Tensor:
        ctx.scatter = scatter
        return gather(shard)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.scatter(g), None, None


class Zero3(ParameterShards, ShardedGradients):
    """A mixin for any training step."""

    sends: ClassVar[Budgets] = ZERO_3

    def to_compute(self, parameters: Named) -> Named:
        """Shards as they are: they are rounded on the way to being gathered."""
        return parameters

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        outside = {name: self.gather_parameter(name, shard) for name, shard in p.items() if not in_layer(name)}
        return super().forward(p | outside, batch)  # type: ignore[safe-super]

    def decoder_layer(self, x: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        shards = {parameter: shard for parameter, shard in p.items() if parameter.startswith(f"{name}.")}
        whole = {parameter: self.gather_parameter(parameter, shard) for parameter, shard in shards.items()}
        with self.forgotten(shards, whole):
            return super().decoder_layer(x, batch, name, p | whole, observed)  # type: ignore[misc]

    def gather_parameter(self, name: str, shard: Tensor) -> Tensor:
        """The whole parameter; the gradient that comes back is that of the shard."""
        return GatherParameter.apply(
            shard, lambda own: self.gather_shards(name, own), lambda g: self.scatter_gradient(name, g)
        )

    def gather_shards(self, name: str, shard: Tensor) -> Tensor:
        return self.gather(name, shard.detach().to(self.compute))

    def forgotten(self, shards: Named, whole: Named) -> AbstractContextManager:
        """Within it autograd keeps no gathered parameter for the backward pass: it is gathered again there.

        Each is when it is first asked for, and freed when nothing in the layer's backward pass is left to ask. A layer
        that is computed again gathers them by doing so.
        """
        if self.recomputes:
            return nullcontext()
        memories = {gathered.untyped_storage().data_ptr(): name for name, gathered in whole.items()}
        again: Named = {}

        def pack(kept: Tensor) -> Any:
            name = memories.get(kept.untyped_storage().data_ptr())
            return kept if name is None else (name, kept.shape, kept.stride(), kept.storage_offset())

        def unpack(kept: Any) -> Tensor:
            if isinstance(kept, Tensor):
                return kept
            name, *view = kept
            if name not in again:
                again[name] = self.gather_shards(name, shards[name])
            return again[name].as_strided(*view)

        return saved_tensors_hooks(pack, unpack)


def in_layer(name: str) -> bool:
    return name.partition(".")[0] in LAYERS


class Linear(Zero3, linear.ColumnLinear):
    """One linear layer."""


class Layer(Zero3, transformer.Layer):
    """One decoder layer."""


class LanguageModel(Zero3, transformer.LanguageModel):
    """The decoder language model."""


class Contrastive(Zero3, ContrastiveTowers):
    """Two towers and a loss that couples all rows."""


class Evaluated(Evaluation, LanguageModel):
    """The same, and an evaluation after every step."""

    sends = evaluated(ZERO_3, of_evaluated_parameters)
