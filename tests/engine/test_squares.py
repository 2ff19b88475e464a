"""Second moments: what is squared may be all rounding, and then the square is held as its root is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.evidence.tolerance import BOUNDS, of_square
from conformance.runner.judge import judge
from tests.engine import specimen
from tests.engine.specimen import case_run

BOUND = BOUNDS["float64"]


@given(st.floats(0, 1e3), st.floats(1e-12, 1.0))
def test_a_root_within_its_bound_has_a_square_within_its_own(root: float, moved: float) -> None:
    """Members moved the root by so much upwards; a candidate by anything up to the bound times that."""
    noise = of_square(np.array([root**2]), np.array([(root + moved) ** 2 - root**2]), BOUND)
    for share in (0.1, 0.5, 0.99):
        error = (root + share * BOUND * moved) ** 2 - root**2
        assert error <= BOUND * noise[0] * (1 + 1e-6)


def test_where_rounding_is_small_nothing_is_wider() -> None:
    noise = np.array([1e-12, 1e-10])
    assert of_square(np.array([1.0, 4.0]), noise, BOUND) == pytest.approx(noise, rel=1e-4)


def test_of_rounding_alone_the_square_may_be_as_wide_as_its_root() -> None:
    """The gradient of a bias of keys is zero but for rounding: members had 1e-19, a candidate 4 times that."""
    assert of_square(np.array([1e-40]), np.array([1e-38]), BOUND)[0] * BOUND >= 16e-38


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "pass"), (1 + 1e-13, "fail")])
def test_a_second_moment_that_is_off_is_found(factor: float, verdict: str) -> None:
    name, made = "optimizer/second_moment/w", case_run()
    squares = [step["gradients/w"] ** 2 for step in made.reference.oracle]
    reference = replace(
        made.reference,
        oracle=tuple(step | {name: x} for step, x in zip(made.reference.oracle, squares, strict=True)),
        noise=tuple(step | {name: 2e-16 * x} for step, x in zip(made.reference.noise, squares, strict=True)),
    )
    steps = tuple(
        step | {name: specimen.sharded("gradients/w", x * factor)}
        for step, x in zip(made.evidence.steps, squares, strict=True)
    )
    results = judge(replace(made, reference=reference, evidence=replace(made.evidence, steps=steps)))
    assert {check.verdict for check in results if check.check in ("logic", "trajectory")} == {"pass", verdict}
