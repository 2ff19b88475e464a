"""Conforming cases made wrong by hand, each as one known mistake makes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.evidence.gather import selector
from tests.engine import specimen
from tests.engine.specimen import MESH, case_run, sharded, with_blocks


def scaled(tensor: str, factor: float) -> CaseRun:
    return case_run(lambda name, step, value: value * factor if name == tensor else value)


def partial_sums() -> CaseRun:
    """Every tensor rank keeps its own part of the bias gradient; over the axis they add up to it."""
    part = np.array([0.1, 0.2, 0.3, 0.4])

    def alter(block):
        return replace(block, value=block.value * part[MESH.coordinates(block.ranks[0])["tensor"]])

    return with_blocks(case_run(), 0, "gradients/b", alter)


def rank_zero_only() -> CaseRun:
    def alter(block):
        rank = MESH.coordinates(block.ranks[0])["data"]
        return block if rank == 0 else replace(block, value=block.value + np.arange(8.0) + 1)

    return with_blocks(case_run(), 0, "gradients/b", alter)


def updated_on_first_rank_only() -> CaseRun:
    """The other copies of w stay as they were: theirs is no update of another size, since the first one is right."""

    initial = specimen.reference().initial["w"]

    def alter(block: Block) -> Block:
        is_first = MESH.coordinates(block.ranks[0])["data"] == 0
        return block if is_first else replace(block, value=initial[selector(block.index)])

    return with_blocks(case_run(), 0, "parameters/w", alter)


def permuted(order: list[int]) -> CaseRun:
    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name != "gradients/w":
            return value
        return np.concatenate([np.split(value, 4, axis=1)[i] for i in order], axis=1)

    return case_run(change)


def zeros_on_last() -> CaseRun:
    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name == "gradients/w":
            value[:, 6:] = 0
        return value

    return case_run(change)


def bias_four_times() -> CaseRun:
    bias = specimen.reference().initial["b"]
    return case_run(lambda name, step, value: value + 3 * bias if name == "outputs/y" else value)


def stale() -> CaseRun:
    first = specimen.reference().oracle[0]["updates/w"]
    return case_run(lambda name, step, value: first if (name, step) == ("updates/w", 1) else value)


def norm_counts_replicas() -> CaseRun:
    oracle = specimen.reference().oracle[0]
    wrong = np.sqrt((oracle["gradients/w"] ** 2).sum() + 4 * (oracle["gradients/b"] ** 2).sum())
    return case_run(lambda name, step, value: wrong if (name, step) == ("metrics/grad_norm", 0) else value)


def norm_of_norms(copies: int, joined: Callable[[list[float]], float]) -> CaseRun:
    """Of four ranks, of which so many count the bias that each of them has."""
    oracle = specimen.reference().oracle[0]
    shards, bias = np.split(oracle["gradients/w"], 4, axis=1), (oracle["gradients/b"] ** 2).sum()
    wrong = joined([np.sqrt((shard**2).sum() + bias * (rank < copies)) for rank, shard in enumerate(shards)])
    return case_run(lambda name, step, value: wrong if (name, step) == ("metrics/grad_norm", 0) else value)


def updated_by(share: float) -> CaseRun:
    """The first update of w has this share of its clipped gradient."""
    oracle, recipe = specimen.reference().oracle[0], specimen.contract().recipe
    right = recipe.clip_norm / oracle["metrics/grad_norm"]
    missing = (1 - share) * right * recipe.learning_rate * oracle["gradients/w"]
    return case_run(lambda name, step, value: value + missing if (name, step) == ("updates/w", 0) else value)


def decayed_on(positions: tuple[int, ...], times: float) -> CaseRun:
    """The same, of the columns that lie on these positions along the tensor axis."""
    made = decayed(times)
    initial, right = made.reference.initial["w"], specimen.reference().oracle[0]

    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if (name, step) != ("updates/w", 0):
            return value
        more = -times * made.contract.recipe.learning_rate * made.contract.recipe.weight_decay * initial
        wrong = [column for position in positions for column in range(2 * position, 2 * position + 2)]
        value = right[name].copy()
        value[:, wrong] += more[:, wrong]
        return value

    return replace(case_run(change), contract=made.contract)


def rows_of_others() -> CaseRun:
    """Rows 2 and 3 hold what belongs to rows 0 and 1."""

    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name == "outputs/y":
            value[2:4] = value[0:2]
        return value

    return case_run(change)


def decayed(times: float) -> CaseRun:
    """The first updates take so many times the decay of a step more from the parameters."""
    recipe, initial = specimen.contract().recipe, specimen.reference().initial
    more = -times * recipe.learning_rate * recipe.weight_decay

    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        parameter = initial.get(name.removeprefix("updates/"))
        return value + more * parameter if name.startswith("updates/") and step == 0 else value

    return case_run(change)


def slot_lost() -> CaseRun:
    return case_run(lambda name, step, value: value * (name != "optimizer/momentum/w"))


def at_another_rate(factor: float) -> CaseRun:
    return case_run(lambda name, step, value: value * factor if (name, step) == ("updates/w", 0) else value)


def another_tensor() -> CaseRun:
    other = np.random.default_rng(2).normal(size=(6, 8))
    made = case_run(lambda name, step, value: other if (name, step) == ("gradients/w", 0) else value)
    first, second = made.reference.oracle
    return replace(made, reference=replace(made.reference, oracle=(first | {"gradients/v": other}, second)))


def over_the_wrong_axis() -> CaseRun:
    made = scaled("gradients/w", 1.7)
    return replace(made, evidence=replace(made.evidence, traffic=(replace(specimen.TRAFFIC[0], axes=("tensor",)),)))


def in_single_precision() -> CaseRun:
    def rounded(value: np.ndarray) -> np.ndarray:
        return (value / 3).astype(np.float32).astype(float) * 3

    return case_run(lambda name, step, value: rounded(value) if name == "outputs/y" else value)


def at_the_seam() -> CaseRun:
    def change(name: str, step: int, value: np.ndarray) -> np.ndarray:
        if name == "outputs/y":
            value[7] = 0  # the last row of the first data rank, of 16 rows
        return value

    return case_run(change)


def late() -> CaseRun:
    return case_run(lambda name, step, value: value * 1.1 if (name, step) == ("outputs/y", 1) else value)


def mean_of_means() -> CaseRun:
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


def another_mask() -> CaseRun:
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


def with_metric(name: str, expected: float, observed: float, *, gradient: float) -> CaseRun:
    """A metric of the first step that is off, and a gradient that is off by a factor."""
    made = scaled("gradients/w", gradient)
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
    ("summed twice", "tensor", lambda: scaled("gradients/w", 4)),
    ("summed twice", "data", lambda: scaled("gradients/w", 2)),
    ("reduction missing, or a mean", "tensor", lambda: scaled("outputs/y", 0.25)),
    ("reduction missing: the copies are partial sums", "tensor", partial_sums),
    ("only the first rank", "data", rank_zero_only),
    ("only the first rank", "data", updated_on_first_rank_only),
    ("shards permuted", "tensor", lambda: permuted([1, 2, 3, 0])),
    ("every rank holds the shard of rank 0 of tensor", "tensor", lambda: permuted([0, 0, 0, 0])),
    ("zeros never written", "tensor", zeros_on_last),
    ("bias 'b' added size-of-axis times", "tensor", bias_four_times),
    ("stale by one step", None, stale),
    ("replicated parameters counted", "tensor", norm_counts_replicas),
    ("norms of ranks added", "tensor", lambda: norm_of_norms(4, sum)),
    ("norms of ranks added", "tensor", lambda: norm_of_norms(1, sum)),
    ("the largest norm of any rank", "tensor", lambda: norm_of_norms(1, max)),
    (
        "clipping not applied",
        None,
        lambda: updated_by(float(specimen.reference().oracle[0]["metrics/grad_norm"]) * 2),
    ),
    ("updated by 0.25 times the gradient", None, lambda: updated_by(0.25)),
    ("the optimizer's state is never stored", None, slot_lost),
    ("weight decay applied once too often", None, lambda: decayed(1)),
    ("weight decay not applied", None, lambda: decayed(-1)),
    ("weight decay not applied, on positions [1, 3]", "tensor", lambda: decayed_on((1, 3), -1)),
    ("rows are those of other rows", None, lambda: rows_of_others()),
    ("weight decay of another size", None, lambda: decayed(0.3)),
    ("learning rate multiplied by the size of an axis", "tensor", lambda: at_another_rate(4)),
    ("learning rate divided by the size of an axis", "data", lambda: at_another_rate(0.5)),
    ("learning rate 3 times what it should be", None, lambda: at_another_rate(3)),
    ("holds what belongs to 'gradients/v'", "data", another_tensor),
    ("over tensor instead", "data", over_the_wrong_axis),
    ("computed or reduced in float32", None, in_single_precision),
    ("wrong only where shards meet", "data", at_the_seam),
    ("right in step 1, wrong afterwards: stale or lost state, or what only a later step has", None, late),
    ("mean of means", "data", mean_of_means),
    ("another mask was drawn, in 2 of 16 rows", None, another_mask),
    ("reduction missing, or a mean", "data", lambda: with_metric("metrics/tokens", 64, 32, gradient=2)),
    ("summed twice", "data", lambda: with_metric("metrics/tokens", 64, 128, gradient=0.5)),
]
