"""A stage for torch: an `nn.Module` from the tensors that enter a stage to those that leave it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from suites.pipeline.stages import INPUT_GRADIENTS
from suites.pipeline.torch_manual.executor import Executor
from suites.training.torch.state import Named

ROWS = "rows"  # row numbers of the slice, which torch cuts like everything else: they say which microbatch this is


def entrance(batch: Named) -> str:
    """The batch key that torch passes to the first stage as its positional argument."""
    return "inputs" if "inputs" in batch else "tokens"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Observations of one forward pass of a stage; `entered` is the leaf of the first stage that gets a gradient."""

    observed: Named
    sums: Named
    entered: Tensor | None


class StageModule(nn.Module):
    """One stage of a model.

    Its inputs and outputs are the activations at a cut in the order of their names, and after them the integer tensors
    that pass through: torch sends integers like other tensors, and knows that they have no gradient. By keyword a stage
    takes from its own rank's microbatch what only the ends of the pipeline read. The last stage returns its loss.

    Law: a forward pass is known by its first row, so that what is seen does not depend on the order in which a
    schedule runs. torch's inference of shapes is a forward pass for row 0 too, on memory that nobody filled; the true
    one comes later and takes its place.
    """

    def __init__(self, model: Executor, stage: int, parameters: Mapping[str, Parameter]) -> None:
        super().__init__()
        self.model, self.stage = model, stage
        self.names, self.leaves = tuple(parameters), nn.ParameterList(parameters.values())
        self.seen: dict[int, Seen] = {}

    def forward(self, *entered: Tensor, **microbatch: Tensor) -> tuple[Tensor, ...] | Tensor:
        model, stage = self.model, self.stage
        x, passthrough = self.first(entered[0], microbatch) if stage == 0 else self.arrived(entered, microbatch)
        p = model.to_compute(dict(zip(self.names, self.leaves, strict=True)))
        out, observed, sums = model.stage(stage, p, x, passthrough | model.at_ends(stage, microbatch))
        self.seen[int(microbatch[ROWS][0])] = Seen(
            observed={name: value.detach() for name, value in observed.items()},
            sums={name: value.detach() for name, value in sums.items()},
            entered=x.get("x") if stage == 0 else None,
        )
        return sums["loss"] if sums else tuple(value for _, value in sorted(out.items()) + sorted(passthrough.items()))

    def observed_rows(self) -> Named:
        """What all microbatches showed, in the order of the rows, with the gradients of the leaves."""
        parts = [self.seen[row] for row in sorted(self.seen)]
        seen = [part.observed | self.input_gradients(part.entered) for part in parts]
        return {name: torch.cat([part[name] for part in seen]) for name in seen[0]}

    def input_gradients(self, leaf: Tensor | None) -> Named:
        """Of one microbatch, in the dtype of sums."""
        return {} if leaf is None or leaf.grad is None else {INPUT_GRADIENTS: leaf.grad.to(self.model.master)}

    def observed_sums(self) -> Named:
        """The sums over all microbatches; none before the last stage."""
        parts = [self.seen[row].sums for row in sorted(self.seen)]
        return {name: torch.stack([part[name] for part in parts]).sum() for name in parts[0]}

    def first(self, handed: Tensor, microbatch: Named) -> tuple[Named, Named]:
        """(leaves, whole numbers) of the first stage: torch takes away the gradients of what it hands over itself."""
        x, passthrough = self.model.from_batch(microbatch | {entrance(microbatch): handed})
        return {name: value.detach().requires_grad_() for name, value in x.items()}, passthrough

    def arrived(self, entered: Sequence[Tensor], microbatch: Named) -> tuple[Named, Named]:
        """(activations, whole numbers) that have crossed the cut."""
        names = sorted(self.model.units_of_stage(self.stage)[0].enters)
        numbers = sorted(self.model.from_batch(microbatch)[1])
        x = dict(zip(names, entered[: len(names)], strict=True))
        return x, dict(zip(numbers, entered[len(names) :], strict=True))
