"""What fills the last shard up, where a dim does not divide, and is counted as if it were there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import Match, filled
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediate

REDUCTIONS = ("reduce_sum", "sum", "mean", "reduce_max", "amax", "cumsum")


def filling_counts(
    result: Intermediate, source: Intermediate, match: Match | None, matcher: Matcher, mesh: Mesh
) -> str:
    """The axis whose last shard is filled up, where a sum is right without what fills it up; empty elsewhere."""
    if result.operation not in REDUCTIONS or match is None or match.sections or len(source.values) != mesh.devices:
        return ""
    known = {rank: ~np.isnan(matcher.known(match, rank)) for rank in source.values}
    axis = next((axis for axis, dim in match.dims if _is_short(known, axis, mesh)), None)
    held = {rank: filled(block) for rank, block in source.values.items()}
    if axis is None or any(known[rank].shape != block.shape for rank, block in held.items()):
        return ""
    for dim in range(held[0].ndim):
        sums = {rank: np.where(known[rank], block, 0).sum(dim) for rank, block in held.items()}
        right = replace(result, axes=(), dtype="", sources=(), values=sums)
        if _is_as_large(sums, result) and matcher.match(right) is not None:
            return axis
    return ""


def _is_as_large(values: dict[int, np.ndarray], result: Intermediate) -> bool:
    return all(values[rank].size == block.size for rank, block in result.values.items())


def _is_short(known: dict[int, np.ndarray], axis: str, mesh: Mesh) -> bool:
    """Whether the last rank along an axis has less than the first, that is filled up."""
    return any(known[group[0]].all() and not known[group[-1]].all() for group in mesh.groups(axis))
