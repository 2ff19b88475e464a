"""What compositions send: each the sum of the parts of the suites that it is made of. Framework-neutral.

Names of sizes and sources are those of the parts; L is the length of the vector in which a rank keeps its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.contract.implementation import Phase
from suites.data import step_budget as data
from suites.data.fsdp2_budget import of_units
from suites.data.layout import ParameterShards, SlotShards
from suites.hybrid.context import ContextInStages
from suites.hybrid.stages import MixtureInStages
from suites.hybrid.stream import MixtureInStream
from suites.hybrid.torch_fsdp2.layout import UnitShards
from suites.moe import step_budget as moe
from suites.moe.layout import ExpertLayout
from suites.pipeline import step_budget as pipeline
from suites.sequence import dtensor_budget
from suites.sequence import step_budget as sequence
from suites.sequence.token_layout import ContextLayout
from suites.tensor import step_budget as tensor
from suites.tensor.step_budget import over_tensor
from suites.training.step_budget import SUMS_OF_GRADIENTS, Part, Step, StepBudget
from suites.training.traffic import Transfer


def of_routed_stream(step: Step) -> Iterator[Transfer]:
    """The stream is gathered in front of a mixture; behind it gradients are, in its stead."""
    phases: tuple[tuple[Phase, int], ...] = (("forward", 1), ("backward", 1 + int(step.recomputes)))
    for phase, times in phases:
        elements = step.rows * step.layout.routed_length * step.model.hidden
        yield over_tensor(step, "all_gather", phase, elements, "n D", calls=times * step.mixtures)


def _five_axes(mixture: tuple[Part, ...]) -> dict[str, StepBudget]:
    """data x fsdp x expert x sequence x tensor."""
    ring = sequence.RINGS["language_model"]
    return {
        "language_model": StepBudget(
            layout=(MixtureInStream, ParameterShards, ExpertLayout, *ring.layout),
            parts=(*ring.parts, *mixture, data.of_parameters, of_routed_stream),
        )
    }


FIVE_AXES_CAPACITY = _five_axes(moe.CAPACITY_PARTS)
FIVE_AXES_RAGGED = _five_axes(moe.RAGGED_PARTS)
FIVE_AXES_UNEVEN = _five_axes(moe.UNEVEN_PARTS)


# Pipelines whose ranks have programs of their own.

_STREAM_STAGE: tuple[Part, ...] = (
    sequence.left(tensor.all_left), sequence.entered(tensor.all_entered, tensor.blocks), tensor.of_logits,
    sequence.of_targets(1), sequence.of_documents,
)  # fmt: skip
MIXTURE_RANKS = pipeline.PipelineBudget(
    layout=(MixtureInStages, pipeline.PipelineLayout, ExpertLayout, tensor.TensorState),
    of_rank=pipeline.BY_RANKS,
    of_slice=(pipeline.of_counts,),
    of_stage=(*pipeline.DENSE_STAGE, moe.of_places, moe.of_uneven, moe.of_counts),
)
CONTEXT_RANKS = pipeline.PipelineBudget(
    layout=(ContextInStages, pipeline.PipelineLayout, ContextLayout, tensor.TensorState),
    of_rank=pipeline.BY_RANKS,
    of_stage=(*_STREAM_STAGE, sequence.of_ring),
)
SHARDED_RANKS = pipeline.PipelineBudget(
    layout=(SlotShards, pipeline.PipelineLayout, tensor.TensorState),
    of_rank=(*pipeline.BY_RANKS, data.of_updated),
    of_stage=pipeline.DENSE_STAGE,
)


# Pipelines in one program.


def of_mixed_vectors(step: Step) -> Iterator[Transfer]:
    """Over the expert axis apart: what does not belong to an expert."""
    layout, length = step.layout, pipeline.vector_length(step.layout)
    others = tuple(axis for axis in layout.gradient_axes if axis != layout.expert_axis)
    for axes in (others, (layout.expert_axis,)):
        yield from step.sums(axes, length, _VECTOR, "L", SUMS_OF_GRADIENTS, dtype=step.reduction)
    yield from pipeline.of_tied_elements(step)


def of_partial_vectors(step: Step) -> Iterator[Transfer]:
    """What meets other tokens on each device of the tensor axis is summed over it first."""
    length, axes = pipeline.vector_length(step.layout), (step.layout.tensor_axis,)
    yield from step.sums(axes, length, _VECTOR, "L", sequence.KORTHIKANTI, dtype=step.reduction)


def of_slices_of_shards(step: Step) -> Iterator[Transfer]:
    """At the beginning of a slice shards are gathered, at its end gradients are scattered."""
    for name in step.names:
        yield data.of_shard(step, "all_gather", "forward", name, step.layout.stored_dtype, step.slices)
        yield data.of_shard(step, "reduce_scatter", "forward", name, step.reduction, step.slices)


_VECTOR = "gradients of all stages of a rank"
MIXTURE_VECTORS = pipeline.PipelineBudget(
    layout=MIXTURE_RANKS.layout,
    of_rank=(of_mixed_vectors, *pipeline.SUMS, pipeline.of_ticks),
    of_slice=(pipeline.of_counts,),
    of_stage=(*pipeline.DENSE_STAGE, moe.of_places, moe.exchanged(moe.of_buffers, "b x e C D")),
)
CONTEXT_VECTORS = pipeline.PipelineBudget(
    layout=CONTEXT_RANKS.layout,
    of_rank=(of_partial_vectors, pipeline.of_vectors, *pipeline.SUMS, pipeline.of_ticks),
    of_stage=(*_STREAM_STAGE, sequence.of_ulysses),
)
SHARDED_VECTORS = pipeline.PipelineBudget(
    layout=(ParameterShards, pipeline.PipelineLayout, tensor.TensorState),
    of_rank=(pipeline.of_vectors, *pipeline.SUMS, pipeline.of_ticks, of_slices_of_shards),
    of_stage=pipeline.DENSE_STAGE,
)


# FSDP2 and DTensor.


def _unit_elements(step: Step, name: str) -> int:
    """Elements of a parameter on one rank of the tensor axis, in chunks of the largest's size."""
    elements: int = step.layout.local_elements(name) * step.mesh.size("fsdp")
    return elements


FSDP2_TENSOR = {
    "language_model": dtensor_budget.BUDGETS["language_model"].plus(of_units(_unit_elements), layout=(UnitShards,))
}
