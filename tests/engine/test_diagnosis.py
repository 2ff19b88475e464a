"""Each signature is recognised where it is, with its axis, and nothing is diagnosed on a conforming run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformance.diagnosis.inside.parts_of_loss import mean_of_parts
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine.mistakes import SIGNATURES, with_metric
from tests.engine.specimen import MESH, case_run, with_blocks


def _causes(made: CaseRun) -> tuple[Cause, ...]:
    return next((result.diagnosis for result in judge(made) if result.diagnosis), ())


@pytest.mark.parametrize(("cause", "axis", "made"), SIGNATURES, ids=[f"{c} ({a})" for c, a, _ in SIGNATURES])
def test_a_signature_is_recognised(cause: str, axis: str | None, made: Callable[[], CaseRun]) -> None:
    best = _causes(made())[0]
    assert cause in best.cause
    assert best.axis == axis
    assert 0.3 <= best.confidence <= 1.0


def test_of_a_metric_that_is_a_ratio_either_sum_may_be_wrong() -> None:
    """Its divisor is not observed: that it is twice too large says nothing surely."""
    causes = _causes(with_metric("metrics/auxiliary", 3, 6, gradient=1))
    twice = [cause for cause in causes if "summed twice" in cause.cause]
    assert twice
    assert all(cause.confidence <= 0.5 for cause in twice)


def test_a_conforming_run_is_not_diagnosed() -> None:
    assert _causes(case_run()) == ()


def _owned(made: CaseRun, axis: str, owners: tuple[int, ...], alter: Callable[[Block], Block]) -> CaseRun:
    """Only these coordinates of an axis hold the gradient of the bias; what they hold passes through `alter`."""
    made = with_blocks(made, 0, "gradients/b", alter)
    observed = made.evidence.steps[0]["gradients/b"]
    held = tuple(block for block in observed.blocks if MESH.coordinates(block.ranks[0])[axis] in owners)
    step = made.evidence.steps[0] | {"gradients/b": replace(observed, blocks=held)}
    return replace(made, evidence=replace(made.evidence, steps=(step, *made.evidence.steps[1:])))


def test_copies_of_a_few_owners_are_partial_sums_of_each_other() -> None:
    part = {1: 0.25, 3: 0.75}

    def alter(block: Block) -> Block:
        return replace(block, value=block.value * part.get(MESH.coordinates(block.ranks[0])["tensor"], 1.0))

    best = _causes(_owned(case_run(), "tensor", (1, 3), alter))[0]
    assert (best.cause.partition(":")[0], best.axis) == ("reduction missing", "tensor")


def test_where_only_one_rank_holds_a_tensor_its_position_explains_nothing() -> None:
    def alter(block: Block) -> Block:
        return replace(block, value=block.value + np.arange(8.0) + 1)

    causes = _causes(_owned(case_run(), "tensor", (2,), alter))
    assert causes
    assert not any("positions" in cause.cause for cause in causes)


def _with_loss(loss: float) -> Intermediates:
    """A step that makes its loss in one operation."""
    made = {rank: np.array(loss) for rank in range(2)}
    value = Intermediate(number=0, operation="sum", place="", phase="forward", sources=(), values=made)
    return Intermediates(values=(value,), observed={"loss": (0,)})


@pytest.mark.parametrize(
    ("loss", "right", "said"),
    [
        (2.5, 2.0, True),  # parts 1 and 4: their mean, where the whole is another
        (2.5, 2.5, False),  # parts count equally: their mean is the right loss, and something else is wrong
        (2.4, 2.0, False),
        (2.5, 5.0, False),  # the right loss is the sum of those of the parts: it is divided by their number
    ],
)
def test_a_mean_of_the_losses_of_parts_is_recognised_where_it_is_not_the_loss(
    loss: float, right: float, said: bool
) -> None:
    causes = list(mean_of_parts(_with_loss(loss), _with_loss(right), (1.0, 4.0), "data"))
    assert [(cause.cause.partition(":")[0], cause.axis) for cause in causes] == [("mean of means", "data")] * said


@pytest.mark.parametrize(("devices", "cause"), [("real", "products in TensorFloat-32"), ("emulated", "bfloat16")])
def test_float32_products_of_a_chip_may_be_in_fewer_bits(devices: str, cause: str) -> None:
    """NVIDIA's chips multiply float32 with 11 significant bits unless told otherwise; a CPU does not."""

    def rounded(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name != "outputs/y":
            return value
        unit = 1.25 * 2.0 ** (np.floor(np.log2(np.abs(value) + 1e-300)) - 10)
        return np.asarray(np.round(value / unit) * unit)

    made = case_run(rounded)
    made = replace(made, case=replace(made.case, devices=devices, dtype="float32"))
    assert cause in _causes(made)[0].cause
