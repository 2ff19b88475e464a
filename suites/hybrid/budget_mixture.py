"""What the scanned step with mixtures may communicate: the dense formulas, and what mixtures add to them.

Names of sizes besides those of the dense budget: K choices of a token, E experts, C places of an expert in a row,
P = rows E C D elements of the buffers of a device's rows, which are as many as those that arrive for its experts.
Sources: Lepikhin et al., GShard, section 3.2 (a buffer goes to its experts and back); Singh et al., A Hybrid
Tensor-Expert-Data Parallelism Approach, section V-A (P / t over the expert axis, gathered behind it).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import ClassVar

from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from reference.architecture import places
from suites.hybrid.budget import (
    Sizes,
    of_activations,
    of_embedded,
    of_embedding,
    of_parameters,
    of_scalars,
    of_vocabulary,
)  # fmt: skip
from suites.moe.layout import is_expert

ROUTER = ".router.weight"
EXCHANGE = "Lepikhin et al., GShard, section 3.2"
ONCE = "Singh et al., A Hybrid Tensor-Expert-Data Parallelism Approach, section V-A"


def scanned_mixture(contract: Contract, mesh: Mesh, dtype: str) -> tuple[Allowance, ...]:
    """The allowances of one step of `hybrid/scanned_mixture` and of every plan of its program."""
    sizes = MixtureSizes(contract, mesh, dtype)
    dense = (*of_parameters(sizes), *of_activations(sizes), *of_vocabulary(sizes), *of_scalars(sizes))
    return (*dense, *of_embedded(sizes), *of_embedding(sizes), *_buffers(sizes), *_features(sizes), *_routing(sizes))


class MixtureSizes(Sizes):
    """Rows are divided over the expert axis too; experts are, and the state of everything else."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp", "expert")

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str) -> None:
        super().__init__(contract, mesh, dtype)
        length = contract.batch_shapes["mask"][1]
        self.rows, self.experts = self.row_tokens // length, self.model.experts
        self.buffers = self.rows * self.experts * (places(self.model, length) or length) * self.model.hidden

    def shard_axes(self, name: str) -> tuple[str, ...]:
        """A router is computed with whole by every rank of the tensor axis, for its own tokens."""
        if name.endswith(ROUTER):
            return ("fsdp", "expert", "tensor")
        return ("fsdp",) if is_expert(name) else ("fsdp", "expert")

    def divides(self, name: str) -> bool:
        return name.endswith(ROUTER) or super().divides(name)

    def share(self, name: str, shape: tuple[int, ...]) -> int:
        if name.endswith(ROUTER):
            return math.prod(shape)
        return super().share(name, shape) // (self.mesh.size("expert") if is_expert(name) else 1)


def _buffers(sizes: MixtureSizes) -> Iterator[Allowance]:
    """There and back in every pass; behind the exchange gathered for the experts, whose partial sums are scattered."""
    layers, there_and_back = sizes.model.layers, 2 * (sizes.twice + 1)
    yield Allowance(
        kind="all_to_all", axes=("expert",), tensor="", dtype=sizes.compute, elements=-(-sizes.buffers // sizes.tensor),
        calls=layers * there_and_back, formula="P / t there and back, forward, again and backward", source=EXCHANGE,
    )  # fmt: skip
    for kind in ("all_gather", "reduce_scatter"):
        yield Allowance(
            kind=kind, axes=("tensor",), tensor="", dtype=sizes.compute, elements=sizes.buffers,
            calls=layers * (sizes.twice + 1),
            formula="P before the experts and behind them, forward, again and backward", source=ONCE,
        )  # fmt: skip


def _features(sizes: MixtureSizes) -> Iterator[Allowance]:
    """Own tokens for own features of all tokens, before they are put into buffers, and back."""
    yield Allowance(
        kind="all_to_all", axes=("tensor",), tensor="", dtype=sizes.compute, elements=sizes.tokens * sizes.model.hidden
        // sizes.tensor, calls=sizes.model.layers * 2 * (sizes.twice + 1),
        formula="n D / t there and back, forward, again and backward", source=ONCE,
    )  # fmt: skip


def _routing(sizes: MixtureSizes) -> Iterator[Allowance]:
    """Choices and gates of whole rows on every rank of the tensor axis; statistics of rows, loads of the batch."""
    model, layers = sizes.model, sizes.model.layers
    chosen = sizes.tokens * model.top_k
    for kind, dtype, calls in (
        ("all_gather", "int32", sizes.twice), ("all_gather", sizes.wide, sizes.twice), ("reduce_scatter", sizes.wide, 1)
    ):  # fmt: skip
        yield Allowance(
            kind=kind, axes=("tensor",), tensor="", dtype=dtype, elements=chosen, calls=layers * calls,
            formula="n K choices, and n K gates, whose gradients are scattered", source="places are counted row by row",
        )  # fmt: skip
    yield Allowance(
        kind="all_reduce", axes=("tensor",), tensor="", dtype=sizes.wide, elements=2 * sizes.rows * sizes.experts,
        calls=layers * sizes.twice, formula="choices and scores of each expert in each row",
        source="Fedus et al., Switch Transformers, section 2.2",
    )  # fmt: skip
    yield Allowance(
        kind="all_reduce", axes=sizes.mesh.axes, tensor="", dtype=sizes.wide, elements=sizes.experts, calls=layers,
        formula="E loads for each layer", source="DeepSeek-AI, DeepSeek-V3 Technical Report, section 2.1.2",
    )  # fmt: skip
