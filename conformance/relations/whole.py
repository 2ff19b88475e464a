"""Whole tensors: what the ranks of one mesh hold against what those of another held, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.evidence.evidence import ExtraRun
from conformance.evidence.gather import gathered, ranks_beyond
from conformance.relations.relation import Finding


def same_state(expected: ExtraRun, extra_run: ExtraRun) -> Iterator[Finding]:
    """Every tensor of one extra run is there in the other, with the same shape and, assembled, the same bits."""
    for name in dict.fromkeys((*expected.observations, *extra_run.observations)):
        yield f"{extra_run.label}: {name}", difference(name, expected, extra_run)


def difference(name: str, expected: ExtraRun, extra_run: ExtraRun) -> str:
    """A sentence where a tensor of a extra run is not, as a whole and bit by bit, that of the other; else empty."""
    if name not in extra_run.observations:
        return f"With {extra_run.label}, '{name}' is missing."
    if name not in expected.observations:
        return f"With {extra_run.label}, '{name}' is there, which was not before."
    before, after = expected.observations[name], extra_run.observations[name]
    if before is after:
        return ""
    if before.shape != after.shape:
        return f"With {extra_run.label}, {name} has shape {after.shape} instead of {before.shape}."
    whole, other = gathered(before, expected.mesh), gathered(after, extra_run.mesh)
    if whole.tobytes() == other.tobytes():
        return ""
    wrong = int((whole.reshape(-1).view("u8") != other.reshape(-1).view("u8")).sum())
    return f"With {extra_run.label}, {wrong} of {whole.size} elements of {name} have other bits."


def one_axis(expected: ExtraRun, extra_run: ExtraRun) -> str | None:
    """The axis of their mesh along which ranks on some positions hold what was not expected, and on others do not."""
    mesh, wrong = extra_run.mesh, set()
    for name in expected.observations.keys() & extra_run.observations.keys():
        before, after = expected.observations[name], extra_run.observations[name]
        if before is not after and before.shape == after.shape:
            wrong |= {*ranks_beyond(after, gathered(before, mesh), np.zeros(before.shape), mesh)}
    positions = {axis: {mesh.coordinates(rank)[axis] for rank in wrong} for axis in mesh.axes}
    axes = [axis for axis in mesh.axes if 0 < len(positions[axis]) < mesh.size(axis)]
    return axes[0] if len(axes) == 1 else None
