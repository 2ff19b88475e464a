"""Signature of shards that are added together: a sum ran over ranks that hold different parts of a tensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from conformance.diagnosis.signatures.scale import factor_between
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.blocks import place
from conformance.records.results import Cause

ALL = "summed over all of the axis, where the ranks that store the same elements are meant"
ANY = "summed over an axis that divides the tensor"


def shards_added(suspect: DivergedTensor) -> Iterator[Cause]:
    """Every rank along an axis holds the sum of all its shards, each counted once, or once for each of its copies."""
    for axis in suspect.axes:
        groups = [group for group in suspect.mesh.groups(axis) if any(rank in suspect.blocks for rank in group)]
        copies = {_copies(suspect, group) for group in groups}
        number = copies.pop() if len(copies) == 1 else 0
        if number and all(_is_sum(suspect, group, (1, number)) for group in groups):
            words = f"different shards are added together: {ALL if number > 1 else ANY}"
            basis = f"every rank along {axis} holds the sum of the shards of all of them"
            yield Cause(cause=words, axis=axis, confidence=0.95, axis_confidence=0.93, basis=basis)


def _copies(suspect: DivergedTensor, group: Sequence[int]) -> int:
    """How many ranks of a group store each shard; 0 where that differs, some hold none, or it is not divided."""
    if not all(rank in suspect.blocks for rank in group):
        return 0
    places = [place(suspect.blocks[rank]) for rank in group]
    shapes = {suspect.blocks[rank].value.shape for rank in group}
    numbers = {places.count(each) for each in places}
    return numbers.pop() if len(shapes) == len(numbers) == 1 and len(set(places)) > 1 else 0


def _is_sum(suspect: DivergedTensor, group: Sequence[int], times: Sequence[int]) -> bool:
    """Not where the sum is a multiple of a shard, as of shards that are alike: then that may be what it is."""
    shards = {place(suspect.blocks[rank]): suspect.slice_of(rank, suspect.expected) for rank in group}
    whole = np.sum(list(shards.values()), axis=0)
    factors = [(factor_between(whole, shard), shard) for shard in shards.values()]
    if any(factor is None or suspect.agrees(factor * shard, whole, factor) for factor, shard in factors):
        return False
    held = [suspect.blocks[rank].value.astype(np.float64) for rank in group]
    return any(all(suspect.explains(value, k * whole, k * len(shards)) for value in held) for k in times)
