"""Division: what a mesh axis divides, by what its ranks hold and by what they compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from conformance.contract.contract import Arrays
from conformance.contract.mesh import Mesh
from conformance.evidence.blocks import Place, place
from conformance.evidence.evidence import Computed, Division, Evidence, Observed

LITTLE = 0.02  # of the work may differ where nothing is divided: masks by rank, messages, what rank 0 does for all
MOST = 0.75  # of the whole work: who does less on the same values has divided it, since the least divisor is 2


def computed_alike(evidence: Evidence, mesh: Mesh, axis: str) -> Division | None:
    """How the arithmetic of a step lies along an axis; None where that is not known."""
    if axis in evidence.division:
        return evidence.division[axis]
    if len(evidence.computed) < mesh.devices:
        return None
    groups = [_of_group([evidence.computed[rank] for rank in group]) for group in mesh.groups(axis)]
    return Division(
        alike=min(group.alike for group in groups),
        own=max(group.own for group in groups),
        own_products=max(group.own_products for group in groups),
        own_tables=max(group.own_tables for group in groups),
    )


def _of_group(ranks: Sequence[Computed]) -> Division:
    common = reduce(np.intersect1d, [rank.digests for rank in ranks])
    shared_tables = reduce(np.intersect1d, [rank.tables for rank in ranks])
    own = [~np.isin(rank.digests, common) for rank in ranks]
    return Division(
        alike=int(ranks[0].operations[~own[0]].sum()),
        own=max(int(rank.operations[mine].sum()) for rank, mine in zip(ranks, own, strict=True)),
        own_products=max(
            int((rank.operations * rank.products)[mine].sum()) for rank, mine in zip(ranks, own, strict=True)
        ),
        own_tables=max(int((~np.isin(rank.tables, shared_tables)).sum()) for rank in ranks),
    )


def does_all(division: Division, whole: int | None, others: int) -> bool:
    """Whether every rank of an axis does all the work there is on it.

    whole   operations of the reference's step; None: not known
    others  devices per coordinate of the axis, over which the work may be divided besides
    """
    total = division.alike + division.own
    if division.own_products or division.own > LITTLE * total or not total:
        return False
    return whole is None or division.alike >= MOST * whole / others


def repeats(batch: Arrays, parts: int) -> bool:
    """Whether the rows of all entries are so many equal parts, in whatever order; an entry of no dims has no rows."""
    entries = [value for value in batch.values() if value.ndim]
    if not entries or not all(len(value) and not len(value) % parts for value in entries):
        return False
    together = len({len(value) for value in entries}) == 1  # else no row of one belongs to a row of another
    return all(_alike(each, parts) for each in ([entries] if together else [[value] for value in entries]))


def _alike(entries: Sequence[np.ndarray], parts: int) -> bool:
    rows = [b"".join(row.tobytes() for row in of_all) for of_all in zip(*entries, strict=True)]
    size = len(rows) // parts
    return len({tuple(sorted(rows[start : start + size])) for start in range(0, len(rows), size)}) == 1


def divided(observations: Mapping[str, Observed], mesh: Mesh, axis: str) -> str | None:
    """The first tensor of which ranks along the axis hold different elements; None if there is none.

    Tensors that lie on one place alone are divided where another lies on another place, as the stages of a pipeline do:
    what all lies on the same one, a counter of an optimizer that was placed nowhere say, is not.
    """
    homes: set[frozenset[int]] = set()
    for name, observed in observations.items():
        held: dict[int, Place] = {rank: place(block) for block in observed.blocks for rank in block.ranks}
        groups = mesh.groups(axis)
        if any(len({held[rank] for rank in group if rank in held}) > 1 for group in groups):
            return name
        home = frozenset(number for group in groups for number, rank in enumerate(group) if rank in held)
        homes |= {home} if 0 < len(home) < mesh.size(axis) else set()
        if len(homes) > 1:
            return name
    return None
