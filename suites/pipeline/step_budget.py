"""What a pipeline sends: the messages of its schedule, and what each stage sends by itself. Framework-neutral.

A stage is a model of its own: its collectives are the parts of the budget of its model, for the layers and ends that it
has and the rows of one microbatch, in each piece of work of the schedule. Ranks differ; the budget is that of the rank
that sends most, kind by kind.

Names of sizes: r rows of a microbatch, A elements of a row that cross a cut, L length of the longest vector.
Source: Huang et al., GPipe, section 2; Narayanan et al., PipeDream-2BW and Megatron-LM, section 2.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from conformance.contract.contract import Contract
from conformance.contract.implementation import Phase, Traffic
from conformance.contract.mesh import Mesh
from conformance.evidence.busiest import busiest
from reference.architecture import mixtures
from suites.pipeline.layout import PASSTHROUGH, PipelineLayout
from suites.pipeline.schedule import ACTIVATION, FORWARD, INPUT_BACKWARD, SEND, TICKS, WORK, Event, timed
from suites.pipeline.ticks import ticks
from suites.tensor import step_budget as tensor
from suites.tensor.layout import TensorState
from suites.training.step_budget import MEANS, Habits, Part, Step, StepBudget, of_gradients, of_norm
from suites.training.traffic import Transfer, total

MESSAGES = "Huang et al., GPipe, section 2: activations to the next stage, gradients to the one before"
TIED = "Narayanan et al., Megatron-LM, section 2.2: both ranks that hold a tied table have the gradient of its use"


class RankStep(Step):
    """What one rank of the pipeline axis holds."""

    def __init__(self, layout: PipelineLayout, habits: Habits, rank: int) -> None:
        super().__init__(layout, habits)
        self.rank, self.names = rank, layout.rank_parameters(rank)


class StageStep(Step):
    """One stage on one microbatch of so many rows."""

    def __init__(self, layout: PipelineLayout, habits: Habits, stage: int, rows: int) -> None:
        super().__init__(layout, habits)
        self.units = [unit.name for unit in layout.units_of_stage(stage)]
        self.tokens, self.rows, self.slices = self.tokens // self.rows * rows, rows, 1

    @property
    def rows_of_slices(self) -> list[int]:
        return [self.rows]

    @property
    def mask_dtype(self) -> str:
        """It passes through stages as whole numbers."""
        return self.habits.whole

    @property
    def depth(self) -> int:
        return sum(unit.startswith("layers.") for unit in self.units)

    @property
    def mixtures(self) -> int:
        own = mixtures(self.model) if self.model.experts else ()
        return sum(name.rpartition(".")[0] in self.units for name in own)

    @property
    def embeddings(self) -> int:
        return self.units.count("embedding")

    @property
    def heads(self) -> int:
        return self.units.count("head") if self.model.kind == "language_model" else 0


@dataclass(frozen=True, kw_only=True)
class PipelineBudget:
    """`layout` as in StepBudget, a PipelineLayout with a schedule among its classes.

    of_rank    what every rank sends of what it holds, when all slices are done
    of_slice   what every rank sends before the first microbatch of a slice
    of_stage   what a stage sends in one piece of work, each in its phase
    """

    layout: tuple[type, ...]
    of_rank: tuple[Part, ...]
    of_slice: tuple[Part, ...] = ()
    of_stage: tuple[Part, ...] = ()

    def scheduled(self, name: str) -> PipelineBudget:
        """Under a schedule, by its name."""
        return self.laid(type("Scheduled", (), {"schedule_name": name}))

    def laid(self, *layout: type) -> PipelineBudget:
        """With these in front of the classes of its layout."""
        return replace(self, layout=(*layout, *self.layout))

    def laid_out(self, contract: Contract, mesh: Mesh, dtype: str) -> PipelineLayout:
        laid_out = StepBudget(layout=self.layout, parts=()).laid_out(contract, mesh, dtype)
        assert isinstance(laid_out, PipelineLayout)
        return laid_out

    def traffic(self, contract: Contract, mesh: Mesh, dtype: str, habits: Habits) -> tuple[Traffic, ...]:
        return self.of(self.laid_out(contract, mesh, dtype), habits)

    def of(self, layout: PipelineLayout, habits: Habits) -> tuple[Traffic, ...]:
        ranks = range(layout.ranks)
        return busiest([total(self.of_one_rank(layout, habits, rank), layout.mesh) for rank in ranks])

    def of_one_rank(self, layout: PipelineLayout, habits: Habits, rank: int) -> Iterator[Transfer]:
        step = RankStep(layout, habits, rank)
        for part in (*self.of_rank, *self.of_slice):
            yield from part(step)
        for size in layout.device_slices:
            for event in timed(layout.schedule, TICKS).lanes[rank]:
                if event.kind in WORK:
                    rows = size // layout.schedule.microbatches
                    yield from self.of_work(StageStep(layout, habits, event.stage, rows), event)

    def of_work(self, stage: StageStep, event: Event) -> Iterator[Transfer]:
        """One piece of work: a forward pass, or a backward pass.

        A program that keeps no graph goes forward once more in a backward pass. Of a stage that nothing enters there
        are no gradients of inputs.
        """
        is_empty = event.kind == INPUT_BACKWARD and event.stage == 0
        phases: list[Phase] = [] if is_empty or event.kind == FORWARD else ["backward"]
        phases += ["forward"] if event.kind == FORWARD or not stage.habits.by_autograd else []
        for part in self.of_stage:
            yield from (transfer for transfer in part(stage) if transfer.phase in phases)


# Sums over ranks, both frameworks.


def of_losses(step: Step) -> Iterator[Transfer]:
    """On the last stage only: over the data axes and the pipeline axis. Loads are of every mixture."""
    axes, number = (*step.layout.data_axes, step.layout.pipeline_axis), 4 + 2 * bool(step.mixtures)
    yield from step.sums(axes, 1, "sums of losses", "1 for each sum", MEANS, calls=number)
    yield from step.sums(axes, step.model.experts, "metrics/load", "E for each mixture", MEANS, calls=step.mixtures)


def of_pipeline_norm(step: Step) -> Iterator[Transfer]:
    axes = tuple(dict.fromkeys((step.layout.pipeline_axis, *step.layout.model_axes)))
    if step.habits.axis_by_axis:
        yield from of_norm(step)
        axes = (step.layout.pipeline_axis,)
    yield from step.sums(axes, 1, "squares of gradients", "1", MEANS)


def of_counts(step: Step) -> Iterator[Transfer]:
    """What losses of mixtures are means of, counted over a whole slice: weight, tokens, rows."""
    if step.mixtures:
        yield from step.sums(
            step.layout.data_axes, 1, "valid elements, real tokens and rows", "1, three times in each slice", MEANS,
            calls=3 * step.slices, phase="forward",
        )  # fmt: skip


# Ranks with programs of their own: parameters one by one, messages as the schedule has them.


def of_tied(step: Step) -> Iterator[Transfer]:
    """A message each way between the two ranks that hold a tied parameter."""
    assert isinstance(step, RankStep)
    for name in step.names:
        if name in step.layout.tied:
            yield Transfer(
                kind="permute", axes=(step.layout.pipeline_axis,), phase="update",
                elements=step.layout.local_elements(name), dtype=step.reduction, tensor=f"gradients/{name}",
                formula="W", source=TIED,
            )  # fmt: skip


def of_messages(step: Step) -> Iterator[Transfer]:
    """Those of all slices. What is sent when all work of the step is done counts as update."""
    assert isinstance(step, RankStep)
    layout, slices = step.layout, step.layout.device_slices
    lane = timed(layout.schedule).lanes[step.rank]
    last = max(index for index, event in enumerate(lane) if event.kind in WORK)
    for number, size in enumerate(slices, start=1):
        for index, event in enumerate(lane):
            if event.kind == SEND and event.peer != step.rank:
                is_late = number == len(slices) and index > last
                phase: Phase = "update" if is_late else "forward"
                yield from _message(step, event, phase, size // layout.schedule.microbatches)


def _message(step: RankStep, event: Event, phase: Phase, rows: int) -> Iterator[Transfer]:
    """Every tensor that crosses a cut by itself; whole numbers pass through with activations."""
    sent = [(f"{event.what} of stage", math.prod(shape), step.compute) for shape in crossing(step.layout, event)]
    if event.what == ACTIVATION:
        sent += [(f"batch/{key}", n, step.habits.whole) for key, n in passed_through(step).items()]
    for name, elements, dtype in sent:
        yield Transfer(
            kind="permute", axes=(step.layout.pipeline_axis,), phase=phase, elements=rows * elements, dtype=dtype,
            tensor=name, formula="r A", source=MESSAGES,
        )  # fmt: skip


def crossing(layout: PipelineLayout, event: Event) -> list[tuple[int, ...]]:
    """Shapes, for one row, of what a message carries: what enters its stage, or the gradients of what has left it."""
    stage = event.stage if event.what == ACTIVATION else event.stage + 1
    return list(layout.units_of_stage(stage)[0].enters.values())


def passed_through(step: Step) -> dict[str, int]:
    """Elements, for one row, of the whole numbers that every message to a later stage carries along."""
    shapes = step.contract.batch_shapes
    row = step.layout.slice_tokens // step.layout.slice_rows
    return {key: row if len(shapes[key]) > 1 else 1 for key in PASSTHROUGH if key in shapes}


# One program for all ranks: parameters in vectors of one length, a message each way in every tick.


def vector_length(layout: PipelineLayout) -> int:
    """Elements of the longest vector of what a rank holds."""
    ranks = map(layout.rank_parameters, range(layout.ranks))
    return max(sum(layout.local_elements(name) for name in names) for names in ranks)


def of_vectors(step: Step) -> Iterator[Transfer]:
    """The vector of gradients over the data axes; what two ranks hold of a tied parameter over all ranks."""
    length, layout = vector_length(step.layout), step.layout
    yield from step.sums(
        layout.gradient_axes, length, "gradients of all stages of a rank", "L", MESSAGES, dtype=step.reduction
    )
    yield from of_tied_elements(step)


def of_tied_elements(step: Step) -> Iterator[Transfer]:
    layout = step.layout
    if layout.tied:
        elements = sum(map(layout.local_elements, layout.tied))
        name = f"gradients/{layout.tied[0]}"
        yield from step.sums((layout.pipeline_axis,), elements, name, "W", TIED, dtype=step.reduction)


def of_ticks(step: Step) -> Iterator[Transfer]:
    """In every tick of every slice a message up and one down, as long as the longest, whether full or empty."""
    layout = step.layout
    stages = [layout.units_of_stage(stage)[0].enters for stage in range(layout.schedule.stages)]
    floats = max(sum(math.prod(shape) for shape in enters.values()) for enters in stages)
    number = ticks(timed(layout.schedule, TICKS)).number
    for size in layout.device_slices:
        rows = size // layout.schedule.microbatches
        for name, elements, dtype in (
            ("activations and their gradients", floats, step.compute),
            ("whole numbers of the batch", sum(passed_through(step).values()), step.habits.whole),
        ):
            yield Transfer(
                kind="permute", axes=(layout.pipeline_axis,), phase="forward", elements=rows * elements, dtype=dtype,
                calls=2 * number if elements else 0, tensor=name, formula="r A of the widest cut", source=MESSAGES,
            )  # fmt: skip


SUMS: tuple[Part, ...] = (of_losses, of_pipeline_norm)
BY_RANKS = (of_gradients, tensor.of_partial_gradients, tensor.of_repeated_gradients, of_tied, *SUMS, of_messages)
DENSE_STAGE: tuple[Part, ...] = (tensor.crossed(tensor.all_left, tensor.all_entered), tensor.of_logits)
RANKS = PipelineBudget(layout=(PipelineLayout, TensorState), of_rank=BY_RANKS, of_stage=DENSE_STAGE)
IN_ONE_PROGRAM = PipelineBudget(
    layout=(PipelineLayout, TensorState), of_rank=(of_vectors, *SUMS, of_ticks), of_stage=DENSE_STAGE
)
