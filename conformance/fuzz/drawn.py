"""Drawn cases: a contract with other values of some of its fields, a mesh, an order of devices, a dtype, a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import assume
from hypothesis import strategies as st

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.cases.usage import UsageError
from conformance.cases.variation import name_of
from conformance.contract.mesh import ORDERS
from conformance.fuzz.ground import Ground

SEEDS = 10
_SAME = object()  # a field as it stands


def cases(grounds: Sequence[Ground]) -> st.SearchStrategy[Case]:
    """Those of these grounds; simpler is nearer to the standing contract, with fewer devices."""
    numbers = st.integers(0, len(grounds) - 1)

    @st.composite
    def drawn(draw: st.DrawFn) -> Case:
        ground = grounds[draw(numbers)]
        changes = draw(_changes(ground))
        assume(changes)  # as they stand, contracts are run elsewhere
        case = Case(
            contract=name_of(ground.contract.name, changes),
            implementation=ground.implementation,
            mesh=replace(draw(st.sampled_from(ground.meshes)), order=draw(st.sampled_from(ORDERS))),
            dtype=draw(st.sampled_from(ground.dtypes)),
            seed=draw(st.integers(0, SEEDS - 1)),
        )
        assume(_can_be(case))
        return case

    return drawn()


def _changes(ground: Ground) -> st.SearchStrategy[dict[str, object]]:
    """Other values of about half of the fields; fewer is simpler."""
    fields = {field: st.sampled_from([_SAME] * len(values) + list(values)) for field, values in ground.values.items()}
    return st.fixed_dictionaries(fields).map(
        lambda drawn: {field: x for field, x in drawn.items() if x is not _SAME and _differs(ground, field, x)}
    )


def _can_be(case: Case) -> bool:
    """Whether its values go together."""
    try:
        resolve(case)
    except UsageError:
        return False
    return True


def _differs(ground: Ground, field: str, value: object) -> bool:
    """Whether it is a change at all; what is no field of model or recipe is taken for one."""
    for holder in (ground.contract.model, ground.contract.recipe):
        if hasattr(holder, field):
            return bool(getattr(holder, field) != value)
    return True
