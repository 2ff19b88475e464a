"""What a reduction over devices has done instead of adding up what it was given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import ml_dtypes
import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import CLOSE, Blocks, Match, combined
from conformance.diagnosis.signatures.scale import TWICE
from conformance.evidence.intermediates import Intermediate

ROUNDING = ("reduce_precision",)  # that leave the dtype as it is
FEW = 8  # different numbers that a narrow dtype may hold by chance
NARROW = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16, "float32": np.float32}


def reduced(result: Intermediate, operand: Intermediate, match: Match | None, mesh: Mesh) -> tuple[str | None, str]:
    """(what is wrong, the axis) of a reduction whose operand is right; None where that is nothing known.

    match   what the operand is
    """
    axes, partial = result.axes, () if match is None else match.partial
    if match is not None and not {*partial} & {*axes}:
        if partial:
            return f"reduced over {' and '.join(axes)} instead of {' and '.join(partial)}", partial[0]
        divided = next((axis for axis, _ in match.dims if axis in axes), None)
        if divided is not None:
            return (
                f"a sum done too often: {divided} divides the operand, so that different blocks are added up",
                divided,
            )
        return TWICE, axes[0]
    shapes = {block.shape for block in (*operand.values.values(), *result.values.values())}
    if len(shapes) == 1 and len(operand.values) == mesh.devices == len(result.values):
        for words, values in mistakes(operand.values, axes, mesh):
            if all(np.allclose(result.values[rank], values[rank], rtol=CLOSE, atol=0) for rank in result.values):
                return words, axes[0]
    return None, axes[0]


def mistakes(operand: Blocks, axes: tuple[str, ...], mesh: Mesh) -> Iterator[tuple[str, Blocks]]:
    """(how it is spoken of, what would come out) of what else may have been done with an operand."""
    sums = combined(operand, axes, mesh)
    size = int(np.prod([mesh.size(axis) for axis in axes]))
    yield "reduction missing: every rank keeps its own operand", operand
    yield "a mean where a sum is meant", {rank: total / size for rank, total in sums.items()}
    yield TWICE, {rank: total * size for rank, total in sums.items()}
    yield "the largest operand in place of the sum", combined(operand, axes, mesh, np.max)
    others = [axis for axis, size in mesh.sizes if size > 1 and axis not in axes]
    for number in range(1, len(others) + 1):
        for other in combinations(others, number):
            words = f"reduced over {' and '.join(other)} instead of {' and '.join(axes)}"
            yield words, combined(operand, other, mesh)
    for name, dtype in NARROW.items():
        rounded = {rank: value.astype(dtype).astype(np.float64) for rank, value in operand.items()}
        yield f"computed or reduced in {name}", combined(rounded, axes, mesh)


def adds_copies(result: Intermediate, operand: Intermediate, mesh: Mesh) -> bool:
    """Whether a sum over an axis is that of copies, which differ along no axis of it."""
    held, size = operand.values, int(np.prod([mesh.size(axis) for axis in result.axes]))
    if result.operation != "all_reduce" or len(held) != mesh.devices or held.keys() != result.values.keys():
        return False
    groups = [group for axis in result.axes for group in mesh.groups(axis)]
    alike = all(np.array_equal(held[rank], held[group[0]]) for group in groups for rank in group)
    made = all(np.allclose(result.values[rank], size * held[rank], rtol=CLOSE, atol=0) for rank in held)
    return alike and made and any(block.any() for block in held.values())


def narrowed(
    result: Intermediate, operands: Sequence[Intermediate], before: Iterable[Intermediate] = ()
) -> Iterator[str]:
    """The narrowest dtype to which a result was rounded, and its operands were not.

    An operation that picks some of the numbers that it is given rounds nothing, nor does one that makes a few numbers,
    or numbers that were there before: 0.75 x + 0.25 x is x, and x may have begun in fewer bits. Where x is an input,
    which nobody saw, the dtype tells: what the program has in more bits only an operation made for that has rounded.
    """
    if _picked(result, operands) or any(_equal(result, other) for other in before):
        return
    for name, dtype in NARROW.items():
        rounded = _may_round(result, name) and _holds(dtype, result)
        if rounded and operands and not all(_holds(dtype, operand) for operand in operands):
            yield name
            return


def _may_round(result: Intermediate, dtype: str) -> bool:
    """Whether an operation whose result the program has in its own dtype may round to this one."""
    return result.dtype in ("", dtype) or result.operation in ROUNDING


def _picked(result: Intermediate, operands: Sequence[Intermediate]) -> bool:
    """Whether what comes out was there before, but for zeros, or is too few different numbers to tell."""
    made = np.unique(np.concatenate([value.ravel() for value in result.values.values()] or [np.empty(0)]))
    made = made[np.isfinite(made) & (made != 0)]
    given = [value.ravel() for operand in operands for value in operand.values.values()]
    return len(made) < FEW or bool(np.isin(made, np.concatenate(given or [np.empty(0)])).all())


def _equal(result: Intermediate, other: Intermediate) -> bool:
    """Bit for bit, on every rank."""
    return result.values.keys() == other.values.keys() and all(
        np.array_equal(value, other.values[rank]) for rank, value in result.values.items()
    )


def _holds(dtype: Any, value: Intermediate) -> bool:
    with np.errstate(over="ignore"):
        return all(np.array_equal(x.astype(dtype).astype(np.float64), x) for x in value.values.values())
