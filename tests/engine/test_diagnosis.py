"""Each signature is recognised where it is, with its axis, and nothing is diagnosed on a conforming run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformance.diagnosis.means import mean_of_parts
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine import specimen
from tests.engine.specimen import MESH, case_run, sharded, with_blocks


def _scaled(tensor: str, factor: float) -> CaseRun:
    return case_run(lambda name, step, value: value * factor if name == tensor else value)


def _partial_sums() -> CaseRun:
    """Every tensor rank keeps its own part of the bias gradient; over the axis they add up to it."""
    part = np.array([0.1, 0.2, 0.3, 0.4])

    def alter(block):
        return replace(block, value=block.value * part[MESH.coordinates(block.ranks[0])["tensor"]])

    return with_blocks(case_run(), 0, "gradients/b", alter)


def _rank_zero_only() -> CaseRun:
    def alter(block):
        rank = MESH.coordinates(block.ranks[0])["data"]
        return block if rank == 0 else replace(block, value=block.value + np.arange(8.0) + 1)

    return with_blocks(case_run(), 0, "gradients/b", alter)


def _permuted(order: list[int]) -> CaseRun:
    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name != "gradients/w":
            return value
        return np.concatenate([np.split(value, 4, axis=1)[i] for i in order], axis=1)

    return case_run(change)


def _zeros_on_last() -> CaseRun:
    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name == "gradients/w":
            value[:, 6:] = 0
        return value

    return case_run(change)


def _bias_four_times() -> CaseRun:
    bias = specimen.reference().initial["b"]
    return case_run(lambda name, step, value: value + 3 * bias if name == "outputs/y" else value)


def _stale() -> CaseRun:
    first = specimen.reference().oracle[0]["updates/w"]
    return case_run(lambda name, step, value: first if (name, step) == ("updates/w", 1) else value)


def _norm_counts_replicas() -> CaseRun:
    oracle = specimen.reference().oracle[0]
    wrong = np.sqrt((oracle["gradients/w"] ** 2).sum() + 4 * (oracle["gradients/b"] ** 2).sum())
    return case_run(lambda name, step, value: wrong if (name, step) == ("metrics/grad_norm", 0) else value)


def _norm_of_norms(copies: int, joined: Callable[[list[float]], float]) -> CaseRun:
    """Of four ranks, of which so many count the bias that each of them has."""
    oracle = specimen.reference().oracle[0]
    shards, bias = np.split(oracle["gradients/w"], 4, axis=1), (oracle["gradients/b"] ** 2).sum()
    wrong = joined([np.sqrt((shard**2).sum() + bias * (rank < copies)) for rank, shard in enumerate(shards)])
    return case_run(lambda name, step, value: wrong if (name, step) == ("metrics/grad_norm", 0) else value)


def _updated_by(share: float) -> CaseRun:
    """The first update of w has this share of its clipped gradient."""
    oracle, recipe = specimen.reference().oracle[0], specimen.contract().recipe
    right = recipe.clip_norm / oracle["metrics/grad_norm"]
    missing = (1 - share) * right * recipe.learning_rate * oracle["gradients/w"]
    return case_run(lambda name, step, value: value + missing if (name, step) == ("updates/w", 0) else value)


def _decayed(times: float) -> CaseRun:
    """The first updates take so many times the decay of a step more from the parameters."""
    recipe, initial = specimen.contract().recipe, specimen.reference().initial
    more = -times * recipe.learning_rate * recipe.weight_decay

    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        parameter = initial.get(name.removeprefix("updates/"))
        return value + more * parameter if name.startswith("updates/") and step == 0 else value

    return case_run(change)


def _slot_lost() -> CaseRun:
    return case_run(lambda name, step, value: value * (name != "optimizer/momentum/w"))


def _at_another_rate(factor: float) -> CaseRun:
    return case_run(lambda name, step, value: value * factor if (name, step) == ("updates/w", 0) else value)


def _another_tensor() -> CaseRun:
    other = np.random.default_rng(2).normal(size=(6, 8))
    made = case_run(lambda name, step, value: other if (name, step) == ("gradients/w", 0) else value)
    first, second = made.reference.oracle
    return replace(made, reference=replace(made.reference, oracle=(first | {"gradients/v": other}, second)))


def _over_the_wrong_axis() -> CaseRun:
    made = _scaled("gradients/w", 1.7)
    return replace(made, evidence=replace(made.evidence, traffic=(replace(specimen.TRAFFIC[0], axes=("tensor",)),)))


def _in_single_precision() -> CaseRun:
    def rounded(value: np.ndarray) -> np.ndarray:
        return (value / 3).astype(np.float32).astype(float) * 3

    return case_run(lambda name, step, value: rounded(value) if name == "outputs/y" else value)


def _at_the_seam() -> CaseRun:
    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name == "outputs/y":
            value[7] = 0  # the last row of the first data rank, of 16 rows
        return value

    return case_run(change)


def _late() -> CaseRun:
    return case_run(lambda name, step, value: value * 1.1 if (name, step) == ("outputs/y", 1) else value)


def _mean_of_means() -> CaseRun:
    """Token losses of two data ranks, with one valid token here and six there."""
    losses, mask = np.arange(1.0, 17.0).reshape(4, 4), np.zeros((4, 4))
    mask[0, 1], mask[2:, 1:] = 1, 1
    losses *= mask
    made = case_run()
    means = (losses[:2].sum() / mask[:2].sum() + losses[2:].sum() / mask[2:].sum()) / 2
    oracle = made.reference.oracle[0] | {"outputs/token_losses": losses, "loss": losses.sum() / mask.sum()}
    noise = {name: np.zeros_like(value) for name, value in oracle.items()}
    rows = replace(sharded("outputs/y", losses), dtype="float64")
    step = made.evidence.steps[0] | {"outputs/token_losses": rows, "loss": sharded("loss", means)}
    return replace(
        made,
        contract=specimen.contract(batches=lambda seed, steps: [{"mask": mask}] * steps),
        reference=replace(
            made.reference, oracle=(oracle, made.reference.oracle[1]), noise=(noise, made.reference.noise[1])
        ),
        evidence=replace(made.evidence, steps=(step, made.evidence.steps[1])),
    )


def _another_mask() -> CaseRun:
    """Two of sixteen rows have another mask than their seeds say."""
    right = (np.random.default_rng(3).random((16, 8)) < 0.75).astype(float)
    wrong = right.copy()
    wrong[[2, 5]] = 1 - right[[2, 5]]
    made, mask = case_run(), replace(sharded("masks/embedding", wrong), dtype="float64")
    oracle = made.reference.oracle[0] | {"masks/embedding": right}
    noise = made.reference.noise[0] | {"masks/embedding": np.zeros_like(right)}
    return replace(
        made,
        reference=replace(
            made.reference, oracle=(oracle, made.reference.oracle[1]), noise=(noise, made.reference.noise[1])
        ),
        evidence=replace(
            made.evidence, steps=(made.evidence.steps[0] | {"masks/embedding": mask}, made.evidence.steps[1])
        ),
    )


def _with_metric(name: str, expected: float, observed: float, *, gradient: float) -> CaseRun:
    """A metric of the first step that is off, and a gradient that is off by a factor."""
    made = _scaled("gradients/w", gradient)
    oracle = made.reference.oracle[0] | {name: np.asarray(expected, float)}
    noise = made.reference.noise[0] | {name: np.zeros(())}
    step = made.evidence.steps[0] | {name: replace(sharded(name, np.asarray(observed, float)), dtype="float64")}
    return replace(
        made,
        reference=replace(
            made.reference, oracle=(oracle, made.reference.oracle[1]), noise=(noise, made.reference.noise[1])
        ),
        evidence=replace(made.evidence, steps=(step, made.evidence.steps[1])),
    )


SIGNATURES: list[tuple[str, str | None, Callable[[], CaseRun]]] = [
    ("summed twice", "tensor", lambda: _scaled("gradients/w", 4)),
    ("summed twice", "data", lambda: _scaled("gradients/w", 2)),
    ("reduction missing, or a mean", "tensor", lambda: _scaled("outputs/y", 0.25)),
    ("reduction missing: the copies are partial sums", "tensor", _partial_sums),
    ("only the first rank", "data", _rank_zero_only),
    ("shards permuted", "tensor", lambda: _permuted([1, 2, 3, 0])),
    ("every rank holds the first rank's shard", "tensor", lambda: _permuted([0, 0, 0, 0])),
    ("zeros never written", "tensor", _zeros_on_last),
    ("bias 'b' added size-of-axis times", "tensor", _bias_four_times),
    ("stale by one step", None, _stale),
    ("replicated parameters counted", "tensor", _norm_counts_replicas),
    ("norms of ranks added", "tensor", lambda: _norm_of_norms(4, sum)),
    ("norms of ranks added", "tensor", lambda: _norm_of_norms(1, sum)),
    ("the largest norm of any rank", "tensor", lambda: _norm_of_norms(1, max)),
    (
        "clipping not applied",
        None,
        lambda: _updated_by(float(specimen.reference().oracle[0]["metrics/grad_norm"]) * 2),
    ),
    ("updated by 0.25 times the gradient", None, lambda: _updated_by(0.25)),
    ("the optimizer's state is never stored", None, _slot_lost),
    ("weight decay applied twice", None, lambda: _decayed(1)),
    ("weight decay not applied", None, lambda: _decayed(-1)),
    ("weight decay of another size", None, lambda: _decayed(0.3)),
    ("learning rate multiplied by the size of an axis", "tensor", lambda: _at_another_rate(4)),
    ("learning rate divided by the size of an axis", "data", lambda: _at_another_rate(0.5)),
    ("learning rate 3 times what it should be", None, lambda: _at_another_rate(3)),
    ("holds what belongs to 'gradients/v'", "data", _another_tensor),
    ("over tensor instead", "data", _over_the_wrong_axis),
    ("computed or reduced in float32", None, _in_single_precision),
    ("wrong only where shards meet", "data", _at_the_seam),
    ("right in step 1, wrong afterwards", None, _late),
    ("mean of means", "data", _mean_of_means),
    ("another mask was drawn, in 2 of 16 rows", None, _another_mask),
    ("reduction missing, or a mean", "data", lambda: _with_metric("metrics/tokens", 64, 32, gradient=2)),
    ("summed twice", "data", lambda: _with_metric("metrics/tokens", 64, 128, gradient=0.5)),
]


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
    causes = _causes(_with_metric("metrics/auxiliary", 3, 6, gradient=1))
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
