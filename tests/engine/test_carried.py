"""A mutation is carried to a narrower mesh by what its collective is, not by its number."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conformance.cases.case import Case, Mutation
from conformance.contract.alteration import Alteration
from conformance.contract.mesh import Mesh
from conformance.runner.carried import carried
from conformance.trace.site import Site
from conformance.workers.jobs import Outcome

WIDE = Case(contract="made/up", implementation="jax-made", mesh=Mesh.parse("data=2,tensor=4"), dtype="float64")
NARROW = {
    axis: replace(WIDE, mesh=Mesh.parse(mesh))
    for axis, mesh in (("data", "data=1,tensor=4"), ("tensor", "data=2,tensor=1"))
}


def _site(number: int, axes: tuple[str, ...], phase: str = "backward") -> Site:
    return Site(
        number=number, kind="all_reduce", axes=axes, phase=phase, shape=(2,), operators=("drop",), reduction="sum"
    )


SITES = (
    _site(0, ("tensor",), "forward"),
    _site(1, ("data",)),
    _site(2, ("tensor",)),
    _site(3, ("data", "tensor")),
    _site(4, ("tensor",)),
)
# With one data rank the sum over both axes is one over tensor alone, and that over data is gone.
WITHOUT_DATA = (
    _site(0, ("tensor",), "forward"),
    _site(1, ("tensor",)),
    _site(2, ("tensor",)),
    _site(3, ("tensor",)),
)


def _carried(number: int, gone: str, after: tuple[Site, ...] = WITHOUT_DATA) -> Case | None:
    wide = replace(WIDE, mutation=Mutation(operator="drop", site=number))
    return carried(
        wide,
        replace(NARROW[gone], mutation=wide.mutation),
        lambda case: Outcome(sites=SITES if case.mesh == WIDE.mesh else after),
    )


@pytest.mark.parametrize(("number", "there"), [(0, 0), (2, 1), (3, 2), (4, 3)])
def test_a_collective_is_known_by_phase_kind_axes_and_place_among_its_like(number: int, there: int) -> None:
    narrowed = _carried(number, "data")
    assert narrowed is not None
    assert narrowed.mutation == Mutation(operator="drop", site=there)
    assert narrowed.mesh == NARROW["data"].mesh


def test_what_goes_with_its_axis_leaves_the_program_as_it_is() -> None:
    narrowed = _carried(1, "data")
    assert narrowed is not None
    assert narrowed.mutation is None


def test_where_there_are_not_as_many_of_its_like_nothing_is_known() -> None:
    assert _carried(2, "data", WITHOUT_DATA[:2]) is None
    assert _carried(9, "data") is None


def test_what_an_implementation_changes_itself_goes_with_its_axis_and_keeps_its_number_elsewhere() -> None:
    made = Alteration(operator="drop_send", site=7, what="a send is left out", axis="tensor")
    wide = replace(WIDE, mutation=Mutation(operator="drop_send", site=7))

    def searched(gone: str, after: tuple[Alteration, ...]) -> Case | None:
        outcomes = {WIDE.mesh: Outcome(alterations=(made,)), NARROW[gone].mesh: Outcome(alterations=after)}
        return carried(wide, replace(NARROW[gone], mutation=wide.mutation), lambda case: outcomes[case.mesh])

    gone = searched("tensor", ())
    assert gone is not None
    assert gone.mutation is None
    kept = searched("data", (made,))
    assert kept is not None
    assert kept.mutation == wide.mutation
    assert searched("data", ()) is None
