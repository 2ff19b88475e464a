"""The training step whose forward and backward passes are those of a schedule of `torch.distributed.pipelining`.

The rest of the step, from the sum over the data axes to the optimizer, is that of the pipelines made by hand.
Source: https://docs.pytorch.org/docs/stable/distributed.pipelining.html
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage
from torch.nn import Parameter

from conformance.contract.contract import Contract
from conformance.contract.implementation import Declarations, Unsupported
from conformance.contract.mesh import Mesh
from suites.pipeline.torch_manual.executor import SUMS
from suites.pipeline.torch_manual.pipeline import Pipeline
from suites.pipeline.torch_pipelining.modules import ROWS, StageModule, entrance
from suites.pipeline.torch_pipelining.placement import TorchPlacement
from suites.training.torch.state import Named, State


def as_it_is(loss: Tensor, target: Tensor) -> Tensor:
    """The loss of torch's schedule: the last stage has summed those of its microbatch."""
    return loss


class TorchPipelining(TorchPlacement, Pipeline):
    """A mixin for a model that is cut into stages. A class of an implementation names torch's schedule.

    Modules live as long as their implementation. So does a schedule, one for each number of rows in a slice, because
    torch keeps the shapes of its first step.
    """

    schedule_class: ClassVar[Any]
    takes_list: ClassVar[bool] = True  # of stages; otherwise the only one of a rank
    splits: ClassVar[bool] = False  # the backward pass of a stage, into that of its inputs and that of its weights

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str) -> None:
        super().__init__(contract, mesh, dtype)
        self.leaves: dict[str, Parameter] = {}
        self.modules: dict[int, StageModule] = {}
        self.schedules: dict[int, Any] = {}

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        self.fill(parameters)
        self.run_schedule(batch)
        sums = {name: torch.zeros((), dtype=self.master) for name in SUMS}
        rows: Named = {}
        for module in self.modules.values():
            sums |= module.observed_sums()
            rows |= module.observed_rows()
            module.seen.clear()
        return {name: self.gradient(leaf) for name, leaf in self.leaves.items()}, sums, rows

    def fill(self, parameters: Named) -> None:
        """Give the leaves these values and no gradients. Two stages here that share a parameter share its leaf."""
        if not self.modules:
            self.leaves = {name: Parameter(value.to(self.master, copy=True)) for name, value in parameters.items()}
            self.modules = {stage: self.module(stage) for stage in self.rank_stages(self.pipeline_rank)}
        for name, leaf in self.leaves.items():
            leaf.data.copy_(parameters[name])
            leaf.grad = None

    def module(self, stage: int) -> StageModule:
        return StageModule(self, stage, {name: self.leaves[name] for name in self.stage_parameters(stage)})

    def gradient(self, leaf: Parameter) -> Tensor:
        return self.round_gradient(leaf.grad if leaf.grad is not None else torch.zeros_like(leaf).detach())

    def run_schedule(self, batch: Named) -> None:
        """Every rank hands over the slice, from which torch cuts the microbatches."""
        rows = len(batch["mask"])
        if rows not in self.schedules:
            self.schedules[rows] = self.new_schedule(self.modules)
        args = (batch[entrance(batch)],) if 0 in self.modules else ()
        target = batch["mask"] if self.schedule.stages - 1 in self.modules else None  # torch wants one
        self.schedules[rows].step(*args, target=target, return_outputs=False, **batch, **{ROWS: torch.arange(rows)})

    def new_schedule(self, modules: Mapping[int, nn.Module]) -> Any:
        """torch's schedule over the stages of this rank, in ascending order. Gradients stay those of the sum."""
        number, group = self.schedule.stages, self.axis(self.pipeline_axis).group
        device = torch.device(self.device_mesh.device_type)
        stages = [PipelineStage(module, stage, number, device, group=group) for stage, module in modules.items()]
        over = stages if self.takes_list else stages[0]
        return self.schedule_class(over, self.schedule.microbatches, loss_fn=as_it_is, scale_grads=False)

    # Refusals and declarations.

    def place(self, parameters: dict[str, np.ndarray], mesh: DeviceMesh) -> State:
        state = super().place(parameters, mesh)
        self.require_schedule()
        return state

    def load(self, folder: Path, mesh: DeviceMesh) -> State:
        state = super().load(folder, mesh)
        self.require_schedule()
        return state

    def require_schedule(self) -> None:
        """torch refuses when a schedule is made: one is made for this, over stages without a model."""
        try:
            self.new_schedule({stage: nn.Identity() for stage in self.rank_stages(self.pipeline_rank)})
        except (ValueError, RuntimeError, AssertionError) as refusal:
            raise Unsupported(" ".join(str(refusal).split())) from refusal

    def require_supported(self) -> None:
        if self.ranks == 1:
            raise Unsupported(
                f"A pipeline of torch has stages on several ranks: the pipeline axis of {self.mesh} has 1."
            )
        super().require_supported()
        if self.splits:
            self.require_outputs_not_needed()

    def require_outputs_not_needed(self) -> None:
        """torch detaches in place what leaves a stage; the weights behind it then have no gradient.

        Not in the first stage, whose inputs need none: it is differentiated at once.
        """
        for stage in range(1, self.schedule.stages - 1):
            first, *later = self.units_of_stage(stage)
            made = {name for unit in later for name in unit.enters} - {"x", *first.enters}
            if early := made & set(self.units_of_stage(stage + 1)[0].enters):
                raise Unsupported(
                    f"Stage {stage} hands on {', '.join(sorted(early))}, which its later layers compute with: torch "
                    "detaches in place what leaves a stage before it makes the gradients of weights."
                )

    def declare(self) -> Declarations:
        """torch decides what it communicates."""
        return Declarations(layout=self.layout(), reduction_dtype=self.reduction_dtype)
