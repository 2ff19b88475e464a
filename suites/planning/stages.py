"""What one rank of a pipeline holds, sends and waits for, by the formulas of the suites; no program of it is compiled.

A stage has as many layers as the others or one less. The first rank has the embedding and the most microbatches live,
the last one the head: the busier of these two counts. Gradients are summed over data once a step, and over fsdp with
every microbatch, as its parameters are gathered for each.
P: ranks of the pipeline axis  m: microbatches  v: stages of a rank  n: tokens of a device in one  D: hidden
Sources: Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters, sections 2.2 and 3.2; Huang et
al., GPipe, section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Literal

from conformance.cases.plannable import Layout
from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from reference.architecture import Architecture
from suites.hybrid.budget import Sizes, of_activations, of_embedding, of_parameters, of_scalars, of_vocabulary
from suites.hybrid.budget import of_context as of_keys_and_values
from suites.pipeline.expected_bubble import bubble_share, live_microbatches
from suites.pipeline.schedules.interleaved import CHUNKS

SCHEDULES = ("1f1b", "gpipe", "interleaved")
End = Literal["first", "last"]
_OTHERS: dict[str, tuple[str, ...]] = {"first": ("head.", "final_norm."), "last": ("embedding.",)}


class StageSizes(Sizes):
    """The numbers of one rank at an end of the pipeline; slices of the batch are its microbatches."""

    def __init__(self, contract: Contract, layout: Layout, dtype: str, end: End) -> None:
        super().__init__(contract, layout.mesh, dtype)
        self.layout, self.end, self.ranks = layout, end, layout.mesh.size("pipeline")
        self.model = _part(self.model, self.ranks)
        rank = 0 if end == "first" else self.ranks - 1
        live = live_microbatches(layout.schedule, self.ranks, layout.microbatches, rank)
        self.live = live / chunks(layout)

    def stored(self) -> Iterator[tuple[str, int, int]]:
        for name, elements, layers in super().stored():
            if not name.startswith(_OTHERS[self.end]):
                yield name, elements, layers if layers == 1 else self.model.layers


@cache
def _part(model: Architecture, ranks: int) -> Architecture:
    """With the layers of one rank."""
    return replace(model, layers=-(-model.layers // ranks))


def chunks(layout: Layout) -> int:
    """Stages of one rank."""
    return CHUNKS if layout.schedule == "interleaved" else 1


def refused(layers: int, layout: Layout) -> str:
    """Why a schedule cannot be; empty where it can, or where there are no stages."""
    ranks, schedule = layout.mesh.size("pipeline"), layout.schedule
    if ranks == 1:
        return ""
    if layers < ranks * chunks(layout):
        return f"{layers} layers are fewer than the stages of {schedule}"
    if layout.microbatches == 1:
        return "one microbatch keeps one stage busy and the others waiting"
    if schedule == "interleaved" and layout.microbatches % ranks:
        return "interleaved stages pass microbatches in rounds of as many as there are ranks"
    return ""


def bubble(layout: Layout) -> float:
    """Share of a step in which a rank waits."""
    ranks = layout.mesh.size("pipeline")
    return (bubble_share(layout.schedule, ranks, layout.microbatches) or 0.0) if ranks > 1 else 0.0


def budget(sizes: StageSizes) -> tuple[Allowance, ...]:
    """What the rank may send in a step."""
    slices = sizes.slices
    every = (*of_parameters(sizes), *of_activations(sizes), *of_keys_and_values(sizes), *of_scalars(sizes))
    ends = of_embedding(sizes) if sizes.end == "first" else of_vocabulary(sizes)
    once = sizes.copy_axes("")
    each_slice = [
        allowance if allowance.kind == "all_reduce" and allowance.axes == once
        else replace(allowance, calls=allowance.calls * slices)
        for allowance in (*every, *ends)
    ]  # fmt: skip
    return (*each_slice, *messages(sizes))


def messages(sizes: StageSizes) -> Iterator[Allowance]:
    """Activations to the next stage, gradients to the one before; the busiest rank's."""
    ends = 1 if sizes.ranks == 2 else 0  # of two ranks each is an end, and sends one way less
    yield Allowance(
        kind="permute", axes=("pipeline",), tensor="", dtype=sizes.compute,
        elements=-(-sizes.tokens * sizes.model.hidden // sizes.tensor),
        calls=sizes.slices * (2 * chunks(sizes.layout) - ends),
        formula="n D / t up and down for each microbatch and stage of a rank",
        source="Narayanan et al., section 3.2",
    )  # fmt: skip
