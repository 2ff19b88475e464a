"""The standing cases cross every pair of mesh axes, in both frameworks, with unequal sizes."""

from __future__ import annotations

from itertools import combinations

from conformance.cases.case import Case
from conformance.cases.suite import suites
from conformance.contract.mesh import Mesh
from suites.hybrid.coverage import AXES, FRAMEWORKS, crossings


def _case(mesh: str, expect: str = "pass") -> Case:
    return Case(
        contract="hybrid/mixture", implementation="jax-x", mesh=Mesh.parse(mesh), dtype="float64", expect=expect
    )


def test_every_pair_is_crossed_with_unequal_sizes() -> None:
    crossed = list(crossings(case for suite in suites().values() for case in suite.cases("full")))
    assert {(crossing.pair, crossing.framework) for crossing in crossed} == {
        (pair, framework) for pair in combinations(AXES, 2) for framework in FRAMEWORKS
    }
    assert [crossing for crossing in crossed if not crossing.unequal] == []


def test_equal_sizes_and_refusals_do_not_count() -> None:
    cases = [_case("data=2,fsdp=3"), _case("data=2,fsdp=2"), _case("data=2,fsdp=4", "unsupported"), _case("data=4")]
    [crossing] = [
        crossing for crossing in crossings(cases) if crossing.pair == ("data", "fsdp") and crossing.framework == "jax"
    ]
    assert (crossing.cases, crossing.unequal) == (2, 1)
