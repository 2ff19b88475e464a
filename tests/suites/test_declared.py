"""Which standing cases declare what they communicate: all but those of the implementations named here, with the reason.

Nothing is run: an implementation is made for its contract and mesh, and asked.
"""

from __future__ import annotations

import pytest

from conformance.cases.case import Case
from conformance.cases.suite import Suite, suites
from conformance.contract.errors import ShardproofError
from conformance.contract.implementation import Declarations
from conformance.workers.lookup import load

LIBRARY = "torch's schedules send shapes, and messages in an order, of their own"
APART = "every rank has a program of its own, which is held to its budget where it is compiled by itself"
UNDECLARED = {
    "jax-staged-1f1b of hybrid": APART,
    **{
        f"torch-pipelining-{name} of pipeline": LIBRARY
        for name in ("gpipe", "1f1b", "interleaved", "looped-bfs", "interleaved-zb", "zbv", "dualpipev")
    },
}


class OnCpu:
    """A device mesh, of which a declaration asks the kind of its devices alone."""

    device_type = "cpu"


class Axis:
    """A mesh axis as torch implementations see it, of which a declaration asks the size alone."""

    rank = 0

    def __init__(self, size: int) -> None:
        self.size = size


def declared(case: Case, suite: Suite) -> Declarations | None:
    """None where the implementation refuses the case, or says it only once it is placed."""
    entry = suite.implementation(case.implementation)
    made = load(entry.classes[case.contract])(suite.contract(case.contract), case.mesh, case.dtype)
    if entry.framework == "torch":
        made.axis, made.device_mesh = lambda name: Axis(case.mesh.size(name)), OnCpu()
    try:
        said: Declarations = made.declare()
    except ShardproofError:
        return None
    return said


def sample(suite: Suite) -> list[Case]:
    """The first standing case with several devices of every implementation and contract."""
    first: dict[tuple[str, str], Case] = {}
    for case in suite.cases("core"):
        if case.mesh.devices > 1 and case.expect == "pass":
            first.setdefault((case.implementation, case.contract), case)
    return list(first.values())


@pytest.mark.parametrize("name", sorted(suites()))
def test_every_implementation_declares_or_is_listed(name: str) -> None:
    suite = suites()[name]
    asked = {case: declared(case, suite) for case in sample(suite)}
    silent = {
        f"{case.implementation} of {name}"
        for case, said in asked.items()
        if said is not None and said.traffic is None and said.at_most is None
    }
    assert silent <= set(UNDECLARED), "these neither declare traffic nor a bound"
    spoken = {f"{case.implementation} of {name}" for case, said in asked.items() if said is not None} - silent
    assert not spoken & set(UNDECLARED), "these are listed and declare all the same"
    assert asked


def test_those_that_are_listed_are_registered_as_silent() -> None:
    """Of all others a package must hold what they communicate."""
    silent = {f"{entry.name} of {name}" for name, suite in suites().items() for entry in suite.implementations
              if not entry.declares}  # fmt: skip
    assert set(UNDECLARED) <= silent
    assert {name for name in silent if name not in UNDECLARED} <= {"jax-staged-gpipe of hybrid"}
