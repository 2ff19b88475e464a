"""Embedding, head and cross-entropy with the vocabulary sharded by DTensor.

B: rows  S: tokens  D: hidden  V: vocabulary
Logits are a DTensor S(2) all the way into the loss; `loss_parallel` makes torch's own cross-entropy work on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Placement, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, loss_parallel

from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard
from reference.architecture import Architecture
from suites.tensor.torch_dtensor.sharding import TensorByDTensor
from suites.training.torch.state import Named


class VocabularyLoss(nn.Module):
    """Per token, in the dtype `wide`: cross-entropy with smoothed labels, and the z term."""

    def __init__(self, model: Architecture, wide: torch.dtype) -> None:
        super().__init__()
        self.model, self.wide = model, wide

    def forward(self, logits_BSV: Tensor, targets_BS: Tensor) -> tuple[Tensor, Tensor]:
        logits_BSV = logits_BSV.to(self.wide)
        smoothing, z_loss = self.model.label_smoothing, self.model.z_loss
        entropy_BS = self.hard_entropy(logits_BSV, targets_BS)
        if not smoothing and not z_loss:
            return entropy_BS, torch.zeros_like(entropy_BS)
        normalizer_BS = self.log_sum_exp(logits_BSV)
        if smoothing:
            mean_BS = whole(logits_BSV.sum(-1)) / self.model.vocabulary
            entropy_BS = (1 - smoothing) * entropy_BS + smoothing * (normalizer_BS - mean_BS)
        return entropy_BS, z_loss * normalizer_BS**2

    def hard_entropy(self, logits_BSV: Tensor, targets_BS: Tensor) -> Tensor:
        """Cross-entropy without smoothing: `loss_parallel` knows no other."""
        losses = F.cross_entropy(logits_BSV.flatten(0, 1), targets_BS.flatten(), reduction="none")
        return whole(losses).view(targets_BS.shape)

    def log_sum_exp(self, logits_BSV: Tensor) -> Tensor:
        highest_BS = whole(logits_BSV.detach().amax(-1))
        shift_BS1 = replicated(highest_BS[..., None], logits_BSV)
        return whole((logits_BSV - shift_BS1).exp().sum(-1)).log() + highest_BS


def whole(x: Tensor) -> Tensor:
    """A DTensor -> its value on every rank, with every pending sum carried out."""
    return x.full_tensor() if isinstance(x, DTensor) else x


def replicated(x: Tensor, like: Tensor) -> Tensor:
    """The same value on every rank -> a DTensor on the mesh of another tensor."""
    return DTensor.from_local(x, like.device_mesh, [Replicate()], run_check=False) if isinstance(like, DTensor) else x


def gathered(x: Tensor, like: Tensor, stream: Placement) -> Tensor:
    """Part of the residual stream -> the whole, a DTensor on the mesh of another tensor."""
    if not isinstance(like, DTensor):
        return x
    return DTensor.from_local(x, like.device_mesh, [stream], run_check=False).redistribute(placements=[Replicate()])


class ShardedVocabulary(TensorByDTensor):
    """Embedding sharded by rows, head by columns. A tied head multiplies by the embedding's own DTensor."""

    def vocabulary_plan(self) -> Mapping[str, ParallelStyle]:
        embedding = RowwiseParallel(input_layouts=Replicate(), output_layouts=self.stream)
        head = ColwiseParallel(input_layouts=self.stream, use_local_output=False)
        return {"embedding": embedding} if self.contract.model.tied else {"embedding": embedding, "head": head}

    def loss_context(self):
        return loss_parallel() if self.submesh is not None else nullcontext()

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """`loss_parallel` must be on for the backward pass, too."""
        with self.loss_context():
            return super().slice_gradients(parameters, batch)

    def require_supported(self) -> None:
        super().require_supported()
        vocabulary, size = self.contract.model.vocabulary, self.tensor_size()
        if vocabulary <= (size - 1) * -(-vocabulary // size):
            raise Unsupported(
                f"Of {size} chunks of {vocabulary} ids the last is empty, and a rank without logits skips a collective "
                f"of torch's loss_parallel that the others wait in."
            )

    def output_placements(self) -> dict[str, Placements]:
        return {**super().output_placements(), "outputs/logits": {**self.row_placements(), self.tensor_axis: Shard(2)}}

    def output_shape(self, name: str, value: Tensor, placements: Placements) -> tuple[int, ...]:
        shape = super().output_shape(name, value, placements)
        return (*shape[:2], self.contract.model.vocabulary) if name == "outputs/logits" else shape
