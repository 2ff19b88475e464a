"""Copies whose mean is right are means of their ranks, or partial sums that another axis of that size has doubled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.signatures.copies import copies_differ
from conformance.diagnosis.signatures.suspect import DivergedTensor
from conformance.evidence.evidence import Block, Observed
from tests.engine.specimen import case_run

MEANS = "average missing: every rank kept its own mean"
SUMS = "reduction missing: the copies are partial sums"


def _said(mesh: Mesh, times: float) -> str:
    """Of a gradient whose copies along tensor are parts of it, each so many times too large."""
    made = case_run()
    made = replace(made, case=replace(made.case, mesh=mesh))
    [right] = [other for other in made.comparisons if (other.step, other.tensor) == (0, "gradients/b")]
    size = mesh.size("tensor")
    part = np.arange(1.0, size + 1) / sum(range(1, size + 1))
    blocks = tuple(
        Block(
            ranks=(rank,),
            index=(slice(0, 8),),
            value=right.expected * times * part[mesh.coordinates(rank)["tensor"]],
        )
        for rank in range(mesh.devices)
    )
    observed = Observed(shape=(8,), dtype="float64", blocks=blocks)
    [cause] = copies_differ(DivergedTensor(comparison=replace(right, observed=observed), case_run=made))
    assert (cause.axis, cause.place) == ("tensor", False)
    return cause.cause


@pytest.mark.parametrize(
    ("mesh", "times", "said"),
    [
        ("sequence=2,tensor=2", 2, f"{MEANS}, or a partial sum, summed once more over sequence"),
        ("data=3,sequence=3,tensor=3", 3, f"{MEANS}, or a partial sum, summed once more over data or sequence"),
        ("sequence=3,tensor=2", 2, MEANS),
        ("sequence=1,tensor=2", 2, MEANS),
        ("sequence=2,tensor=2", 1, SUMS),
    ],
)
def test_of_copies_whose_mean_is_right_all_is_said_that_they_may_be(mesh: str, times: float, said: str) -> None:
    assert _said(Mesh.parse(mesh), times) == said
