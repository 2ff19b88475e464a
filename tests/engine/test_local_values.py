"""Statistics of a rank's own part, other numbers to multiply by, buffers to be summed, and another value in a role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause

RNG = np.random.default_rng(0)
MESH = Mesh.parse("tensor=2")
OUTPUT = "outputs/y"
LOG_SUM_EXP = ("logarithm of the sum of exponentials", np.logaddexp.reduce)
X, Y, W = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6)), RNG.normal(size=(6, 6))


def at(
    number: int, operation: str, blocks: Sequence[np.ndarray], *sources: int, phase: str = "forward"
) -> Intermediate:
    """On the line of its number; one block on one device."""
    return Intermediate(
        number=number,
        operation=operation,
        place=f"model.py:{number}",
        phase="forward",
        sources=sources,
        values=dict(enumerate(blocks)),
    )


def causes(wide: Sequence[Intermediate], twin: Sequence[Intermediate]) -> list[Cause]:
    here, alone = (Intermediates(values=tuple(each), observed={OUTPUT: (each[-1].number,)}) for each in (wide, twin))
    return list(first_divergence(here, alone, MESH, OUTPUT))


@pytest.mark.parametrize(("name", "statistic"), [("mean", np.mean), ("variance", np.var), LOG_SUM_EXP])
@pytest.mark.parametrize("of_all", [False, True], ids=["of its part", "of all"])
def test_the_statistic_of_an_uneven_part_is_not_that_of_all(name: str, statistic: object, of_all: bool) -> None:
    x = RNG.normal(size=(4, 7))
    parts = [x[:, :4], x[:, 4:]]
    made = [statistic(x if of_all else part, axis=1) for part in parts]  # type: ignore[operator]
    wide = [at(0, "tanh", parts), at(1, "mean", made, 0), at(2, "sin", [np.sin(m) + of_all for m in made], 1)]
    whole = statistic(x, axis=1)  # type: ignore[operator]
    twin = [at(0, "tanh", [x]), at(1, "mean", [whole], 0), at(2, "sin", [np.sin(whole)], 1)]
    said = [cause for cause in causes(wide, twin) if "own part" in cause.cause]
    if of_all:
        assert not said
    else:
        words = f"the {name} of each rank's own part is used where that of all parts over tensor is meant"
        assert [(cause.cause, cause.axis) for cause in said] == [(f"{words}, at model.py:1", "tensor")]


@pytest.mark.parametrize(("factor", "root"), [(2**-0.5, ", 1 by the root of the size of tensor"), (0.3, "")])
def test_another_number_to_multiply_by_is_said_with_what_it_may_be(factor: float, root: str) -> None:
    halves = np.split(X, 2)
    wide = [at(0, "tanh", halves), at(1, "mul", [0.5 * factor * half for half in halves], 0)]
    wide.append(at(2, "exp", [np.exp(0.5 * factor * half) for half in halves], 1))
    twin = [at(0, "tanh", [X]), at(1, "mul", [0.5 * X], 0), at(2, "exp", [np.exp(0.5 * X)], 1)]
    best = causes(wide, twin)[0]
    words = f"multiplied by another number than on one device, {factor:.4g} times that{root}: mul at model.py:1"
    assert (best.cause, best.place) == (words, False)


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_buffer_of_partial_sums_is_right_and_what_scales_it_is_not(factor: float) -> None:
    """Gradients are laid side by side and summed over ranks at once."""
    of_x, of_y = RNG.normal(size=(2, *X.shape)), RNG.normal(size=(2, *Y.shape))
    of_x[1], of_y[1] = 2 * X - of_x[0], 3 * Y - of_y[0]  # they add up to 2 X and 3 Y
    buffers = [np.concatenate([a.ravel(), b.ravel(), np.zeros(2)]) for a, b in zip(of_x, of_y, strict=True)]
    total = factor * sum(buffers)
    wide = [
        at(0, "mm", of_x),
        at(1, "mm", of_y),
        at(2, "cat", buffers, 0, 1),
        at(3, "div", [factor * buffer for buffer in buffers], 2),
        replace(at(4, "all_reduce", [total, total], 3), axes=("tensor",)),
        at(5, "slice", [total[:24].reshape(4, 6)] * 2, 4),
    ]
    twin = [at(0, "mm", [2 * X]), at(1, "mm", [3 * Y]), at(5, "slice", [2 * X], 0)]
    said = causes(wide, twin)
    if factor == 1.0:
        assert said == []
    else:
        assert said[0].cause.endswith("a mean where a sum is meant: 1/size-of-axis of it, at model.py:3")
    assert not any("used as if it were whole" in cause.cause for cause in said)


@pytest.mark.parametrize("goes_on", ["div", "sub"])
def test_what_is_summed_in_place_of_another_value_is_said_where_the_rest_is_alike(goes_on: str) -> None:
    """Gates are divided by the sum of biased scores, where the reference takes the scores as they are."""
    scores, biased = np.exp(X), np.exp(X) + np.abs(Y)
    right, wrong = scores.sum(1, keepdims=True), biased.sum(1, keepdims=True)
    twin = [at(10, "exp", [scores]), at(11, "add", [biased], 10), at(12, "top_k", [biased[:, ::-1]], 11)]
    twin += [at(13, "sqrt", [np.sqrt(scores)], 10), at(14, "reduce_sum", [np.sqrt(scores).sum(1)], 13)]
    twin += [at(15, "div", [biased / np.sqrt(scores).sum(1)[:, None]], 11, 14)]
    here = [np.split(each, 2) for each in (scores, biased, wrong)]
    wide = [at(0, "exp", here[0]), at(1, "add", here[1], 0), at(4, "reduce_sum", [w[:, 0] for w in here[2]], 1)]
    last = [b / w if goes_on == "div" else b - w for b, w in zip(here[1], here[2], strict=True)]
    wide.append(at(5, goes_on, last, 1, 4))
    assert right.shape == wrong.shape
    said = [cause.cause for cause in causes(wide, twin) if not cause.place]
    taken = "add at model.py:11 makes, where one device takes what sqrt at model.py:13 makes"
    words = f"another value than on one device is used: operand 0 of reduce_sum at model.py:4 is what {taken}"
    assert said == ([words] if goes_on == "div" else [])


def test_of_two_partial_sums_in_a_product_the_one_that_was_summed_halfway_is_named() -> None:
    mesh = Mesh.parse("data=2,expert=2")
    parts = [RNG.normal(size=(3, 4)) for _ in range(4)]
    half = [parts[0] + parts[2], parts[1] + parts[3]]  # summed over data
    counts = {rank: half[rank % 2] for rank in range(4)}
    shares = dict(enumerate(RNG.normal(size=(4, 3, 4))))
    wide = [
        replace(at(0, "div", []), values=counts),
        replace(at(1, "div", []), values=shares),
        replace(at(2, "mul", [], 0, 1), values={rank: counts[rank] * shares[rank] for rank in range(4)}),
    ]
    counted, shared = sum(half), sum(shares.values())
    twin = [at(0, "div", [counted]), at(1, "div", [shared]), at(2, "mul", [counted * shared], 0, 1)]
    here, alone = (Intermediates(values=tuple(each), observed={OUTPUT: (2,)}) for each in (wide, twin))
    best = next(first_divergence(here, alone, mesh, OUTPUT))
    assert best.axis == "expert"
    assert best.cause == "reduction missing: a partial sum over expert is used as if it were whole, at model.py:2"


@pytest.mark.parametrize("divisors", [(2.0, 5.0), (2.0, 2.0)], ids=["of its own", "the same"])
def test_parts_of_a_sum_that_ranks_divide_by_numbers_of_their_own_are_a_mean_of_means(
    divisors: tuple[float, float],
) -> None:
    parts = [RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6))]
    divided = [part / divisor for part, divisor in zip(parts, divisors, strict=True)]
    total = sum(divided)
    wide = [at(0, "mm", parts), at(1, "div", divided, 0)]
    wide.append(replace(at(2, "all_reduce", [total, total], 1), axes=("tensor",)))
    twin = [at(0, "mm", [sum(parts)]), at(1, "div", [sum(parts) / 7], 0)]
    said = [cause for cause in causes(wide, twin) if "mean of means" in cause.cause]
    if divisors[0] == divisors[1]:
        assert not said
    else:
        words = "every rank divides its part of a sum over tensor by a number of its own, as in a mean of means"
        assert [(cause.cause, cause.axis) for cause in said] == [(f"{words}, at model.py:1", "tensor")]


def test_blocks_are_known_again_where_the_first_rank_has_nothing_but_zeros() -> None:
    """The loss weights of short rows, of which the first rank has none that counts."""
    weights = np.concatenate([np.zeros((2, 6)), RNG.normal(size=(2, 6))])
    halves = np.split(weights, 2)
    wide = [at(0, "where", halves), at(1, "sin", [np.sin(2 * half) for half in halves], 0)]
    twin = [at(0, "where", [weights]), at(1, "sin", [np.sin(weights)], 0)]
    assert "sin at model.py:1" in causes(wide, twin)[0].cause
    right = [wide[0], at(1, "sin", [np.sin(half) for half in halves], 0)]
    assert causes(right, twin) == []


def test_a_buffer_that_one_device_fills_further_is_not_blamed_before_what_is_wrong() -> None:
    """A stage notes what it observes among zeros, and rounds what it sends."""
    halves = np.split(X, 2)
    noted = [np.concatenate([half, np.zeros((2, 6))]) for half in halves]
    sent = [half.astype(np.float32).astype(float) for half in halves]
    wide = [at(0, "tanh", halves), at(1, "scatter", noted, 0), at(2, "convert", sent, 0)]
    wide.append(at(3, "add", [a[:2] + b for a, b in zip(noted, sent, strict=True)], 1, 2))
    twin = [at(0, "tanh", [X]), at(3, "add", [2 * X], 0)]
    best = causes(wide, twin)[0]
    assert (best.cause, best.place) == ("computed or reduced in float32: convert at model.py:2", False)


@pytest.mark.parametrize("moved", [0, 1])
def test_labels_of_other_tokens_choose_another_element_of_a_row(moved: int) -> None:
    labels = np.array([3, 0, 5, 2])
    wrong = np.roll(labels, moved)

    def chosen(of: np.ndarray) -> np.ndarray:
        return np.where(np.arange(6) == of[:, None], X + 10, 0.0)

    halves = np.split(chosen(wrong), 2)
    wide = [at(0, "tanh", np.split(X + 10, 2)), at(1, "select_n", halves, 0)]
    wide.append(at(2, "reduce_sum", [half.sum(1) for half in halves], 1))
    twin = [at(0, "tanh", [X + 10]), at(1, "select_n", [chosen(labels)], 0)]
    twin.append(at(2, "reduce_sum", [chosen(labels).sum(1)], 1))
    said = [cause.cause for cause in causes(wide, twin) if "mask" in cause.cause or "chosen" in cause.cause]
    words = "another element of a row is chosen than on one device: select_n at model.py:1, whose indices are wrong"
    assert said == ([words] if moved else [])
