"""What one rank of a pipeline may communicate: the parts of the scanned step's budget, and its schedule's messages.

Layers go to stages in their order, as many to each as to the others or one less. What the scanned step sends of a slice
of its batch, a stage sends of a microbatch: parameters are gathered, and gradients summed, with each of them.
P: ranks of the pipeline axis  m: microbatches  n: tokens of a device in one  D: hidden  t: size of the tensor axis
Sources: Narayanan et al., Efficient Large-Scale Language Model Training on GPU Clusters, sections 2.2 and 3.2; Huang et
al., GPipe, section 2.3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from reference.architecture import Architecture
from suites.hybrid.budget import (
    Sizes,
    of_activations,
    of_context,
    of_embedded,
    of_embedding,
    of_parameters,
    of_scalars,
    of_vocabulary,
)  # fmt: skip
from suites.pipeline.expected_bubble import live_microbatches
from suites.pipeline.schedules.interleaved import CHUNKS

EMBEDDING, HEAD = ("embedding.",), ("head.", "final_norm.")


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a rank of the pipeline axis has of a model: `layers` of it from layer `start` on, and what the ends have."""

    rank: int
    ranks: int
    start: int
    layers: int

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    @property
    def is_last(self) -> bool:
        return self.rank == self.ranks - 1

    def has(self, name: str) -> bool:
        """Whether a parameter outside the layers is here; those of layers are told apart by their number."""
        return (self.is_first or not name.startswith(EMBEDDING)) and (self.is_last or not name.startswith(HEAD))


def parts(layers: int, ranks: int) -> tuple[Part, ...]:
    """Of all ranks; the first ones have a layer more where layers do not divide."""
    few, more = divmod(layers, ranks)
    return tuple(
        Part(rank=rank, ranks=ranks, start=rank * few + min(rank, more), layers=few + (rank < more))
        for rank in range(ranks)
    )


def distinct(layers: int, ranks: int) -> tuple[tuple[Part, int], ...]:
    """Parts with programs of their own, and how many ranks each stands for.

    Those are the two ends, and of all between them the first: none of the others has more layers or microbatches live.
    """
    every = parts(layers, ranks)
    between = ((every[1], ranks - 2),) if ranks > 2 else ()
    return ((every[0], 1), *between, (every[-1], 1))


def chunks(schedule: str) -> int:
    """Stages of one rank."""
    return CHUNKS if schedule == "interleaved" else 1


def inside(mesh: Mesh) -> Mesh:
    """The mesh of one rank of the pipeline axis."""
    return Mesh(sizes=tuple(pair for pair in mesh.sizes if pair[0] != "pipeline") or (("data", 1),))


class StageSizes(Sizes):
    """The numbers of one rank; slices of the batch are its microbatches."""

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str, part: Part, schedule: str) -> None:
        super().__init__(contract, mesh, dtype)
        self.part, self.schedule, self.end = part, schedule, f"{part.is_first}{part.is_last}"
        self.model = with_layers(self.model, part.layers)
        self.has_head = part.is_last
        live = live_microbatches(schedule, part.ranks, self.slices, part.rank)
        self.live = live / chunks(schedule)

    def stored(self) -> Iterator[tuple[str, int, int]]:
        for name, elements, layers in super().stored():
            if self.part.has(name):
                yield name, elements, layers if layers == 1 else self.model.layers


@cache
def with_layers(model: Architecture, layers: int) -> Architecture:
    return replace(model, layers=layers)


def staged(sizes: StageSizes) -> tuple[Allowance, ...]:
    """The allowances of one step of a rank."""
    return (*of_stage(sizes), *messages(sizes))


def of_stage(sizes: StageSizes) -> Iterator[Allowance]:
    """What is sent between the devices of one rank, for each microbatch."""
    every = [*of_parameters(sizes), *of_activations(sizes), *of_context(sizes), *of_scalars(sizes)]
    every += [*of_embedded(sizes), *of_embedding(sizes)] if sizes.part.is_first else []
    every += of_vocabulary(sizes) if sizes.part.is_last else []
    yield from (replace(each, calls=each.calls * sizes.slices) for each in every)


def messages(sizes: StageSizes) -> Iterator[Allowance]:
    """Activations to the next stage, gradients to the one before; the rank's own stages, where it has several."""
    part, number = sizes.part, chunks(sizes.schedule)
    sent = 2 * number - (part.is_last + part.is_first)  # an end has no neighbour on one side
    if part.ranks == 1 or not sent:
        return
    yield Allowance(
        kind="permute", axes=("pipeline",), tensor="", dtype=sizes.compute,
        elements=-(-sizes.tokens * sizes.model.hidden // sizes.tensor), calls=sizes.slices * sent,
        formula="n D / t up and down for each microbatch and stage of a rank", source="Narayanan et al., section 3.2",
    )  # fmt: skip
