"""Mistakes in a torch program that a small run hardly shows: planted in a plan, found in the step of one rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle

from suites.hybrid.torch_fsdp2 import production
from suites.hybrid.torch_fsdp2.modules import wrap


class LayerLeftOut(production.LanguageModel):
    """The last layer is ignored by `fully_shard`: its parameters and their gradients lie whole over fsdp."""

    def build(self) -> nn.Module:
        self.left_out = f"layers.{self.contract.model.layers - 1}"
        return super().build()

    def wrapped(self, model: nn.Module, path: str) -> None:
        if path != self.left_out:
            ignored = set(model.get_submodule(self.left_out).parameters()) if not path else None
            wrap(model.get_submodule(path), self.state_mesh, self.policy(), ignored)


class KeptGathered(production.LanguageModel):
    """`reshard_after_forward` is off: every layer stays gathered from its forward to its backward pass."""

    def wrapped(self, model: nn.Module, path: str) -> None:
        super().wrapped(model, path)
        unit = model.get_submodule(path)
        assert isinstance(unit, FSDPModule)
        unit.set_reshard_after_forward(False)


class ReplicatedLogits(production.LanguageModel):
    """The head hands out the logits of the whole vocabulary on every rank of the tensor axis."""

    def vocabulary_plan(self) -> Mapping[str, ParallelStyle]:
        head = ColwiseParallel(input_layouts=self.stream, output_layouts=Replicate(), use_local_output=True)
        return {**super().vocabulary_plan(), "head": head}


class WholeTokens(production.LanguageModel):
    """Between blocks every rank of the tensor axis has all tokens: partial sums are all-reduced, not scattered."""

    stream: ClassVar[Placement] = Replicate()

    def norm_plan(self, path: str) -> Mapping[str, ParallelStyle]:
        return {}


class AskedTwice(production.LanguageModel):
    """A control: the residual stream is brought once more to where it lies already; nothing is sent more."""

    def add_positions(self, x_BSD: Tensor) -> Tensor:
        assert self.submesh is not None
        tokens = DTensor.from_local(super().add_positions(x_BSD), self.submesh, [Shard(1)], run_check=False)
        return tokens.redistribute(placements=[Shard(1)]).to_local()


@dataclass(frozen=True, kw_only=True)
class PlantedStep:
    """A mistake and what has to be said of it: the check, an axis, and a part of the sentence."""

    name: str
    program: type
    check: str
    axis: str
    said: str


def _planted(name: str, program: type, check: str, axis: str, said: str) -> PlantedStep:
    return PlantedStep(name=name, program=program, check=check, axis=axis, said=said)


PLANTED = (
    _planted("layer-left-out", LayerLeftOut, "memory", "fsdp", "is not divided over fsdp"),
    _planted("kept-gathered", KeptGathered, "memory", "fsdp", "all_gather over fsdp in the backward"),
    _planted("replicated-logits", ReplicatedLogits, "communication", "tensor", "most of it at head"),
    _planted("whole-tokens", WholeTokens, "communication", "tensor", "all_reduce over tensor in the forward"),
)
CONTROLS: Mapping[str, type] = {"asked-twice": AskedTwice}
