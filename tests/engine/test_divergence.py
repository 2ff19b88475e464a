"""What the values of a step show of an operation on a partial sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.matching import Matcher
from conformance.diagnosis.signatures.holders import whose
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause

MESH = Mesh.parse("data=2,tensor=2")
RNG = np.random.default_rng(0)
STREAM, SHARES = RNG.normal(size=6), RNG.normal(size=(2, 6))  # whole on every rank; a partial sum over tensor
PRODUCT = Intermediate(number=0, operation="dot_general", place="model.py:3", phase="forward", sources=())
TOTAL = SHARES.sum(0)


def _program(add: np.ndarray, summed: bool) -> Intermediates:
    """Each rank adds something to its partial sum, which is summed afterwards, or used as it is."""
    shares = {rank: SHARES[MESH.coordinates(rank)["tensor"]] for rank in range(4)}
    added = {rank: share + add[rank] for rank, share in shares.items()}
    product = replace(PRODUCT, values=shares)
    sums = replace(PRODUCT, number=2, operation="add", place="model.py:4", sources=(0,), values=added)
    groups = {rank: group for group in MESH.groups("tensor") for rank in group}
    whole = {rank: sum(added[other] for other in groups[rank]) for rank in range(4)}
    last = replace(
        PRODUCT, number=5, operation="all_reduce", axes=("tensor",), place="model.py:5", sources=(2,), values=whole
    )
    after = replace(
        PRODUCT,
        number=5,
        operation="sin",
        place="model.py:5",
        sources=(2,),
        values={r: np.sin(x) for r, x in added.items()},
    )
    return Intermediates(values=(product, sums, last if summed else after), observed={"outputs/y": (5,)})


ONE_DEVICE = Intermediates(
    values=(
        replace(PRODUCT, values={0: TOTAL}),
        replace(PRODUCT, number=1, operation="add", place="model.py:4", sources=(0,), values={0: TOTAL + STREAM}),
    ),
    observed={"outputs/y": (1,)},
)


def _said(wide: Intermediates) -> tuple[str, str | None]:
    cause = next(iter(first_divergence(wide, ONE_DEVICE, MESH, "outputs/y")))
    return cause.cause, cause.axis


def test_what_is_whole_and_added_before_the_sum_is_counted_once_per_rank() -> None:
    cause, axis = _said(_program(np.tile(STREAM, (4, 1)), summed=True))
    assert cause.startswith("counted 2 times: what is whole on every rank is added to a partial sum")
    assert "summed over tensor afterwards, at model.py:4" in cause
    assert axis == "tensor"


@pytest.mark.parametrize("summed", [True, False])
def test_what_differs_by_rank_is_not_whole(summed: bool) -> None:
    cause, axis = _said(_program(RNG.normal(size=(4, 6)), summed))
    assert "counted" not in cause
    assert axis == "tensor"


def test_a_partial_sum_that_is_never_summed_lacks_its_reduction() -> None:
    cause, axis = _said(_program(np.tile(STREAM, (4, 1)), summed=False))
    assert cause == "reduction missing: a partial sum over tensor is used as if it were whole, at model.py:4"
    assert axis == "tensor"


@pytest.mark.parametrize(("combine", "said"), [(np.mean, True), (np.max, False)])
def test_a_mean_of_the_own_part_is_named(combine, said: bool) -> None:
    """Every rank subtracts its own mean where the mean of all is meant, which another line computes.

    Its own maximum it may well subtract: a stable softmax makes up for it.
    """
    parts = {rank: RNG.normal(size=(6, 3)) for rank in (0, 1)}
    own = {rank: combine(part, axis=1) for rank, part in parts.items()}
    both = combine([own[0], own[1]], axis=0)
    statistic = replace(PRODUCT, operation="reduce", values=own)
    minus = replace(PRODUCT, number=1, operation="sub", place="model.py:4", sources=(0,))
    minus = replace(minus, values={rank: part - own[rank][:, None] for rank, part in parts.items()})
    reduced = replace(
        PRODUCT, number=2, operation="all_reduce", axes=("tensor",), sources=(0,), values={0: both, 1: both}
    )
    wide = Intermediates(values=(statistic, minus, reduced), observed={"outputs/y": (1, 2)})
    whole = np.concatenate([parts[0], parts[1]], axis=1)
    twin = Intermediates(
        values=(
            replace(PRODUCT, values={0: both}),
            replace(
                PRODUCT, number=1, operation="sub", place="model.py:4", sources=(0,), values={0: whole - both[:, None]}
            ),
        )
    )
    [first, *_] = first_divergence(wide, twin, Mesh.parse("tensor=2"), "outputs/y")
    words = "the mean of each rank's own part is used where that of all parts over tensor is meant, at model.py:4"
    assert (first.cause == words) is said
    assert (first.axis == "tensor") is said


@pytest.mark.parametrize(
    ("places", "said"),
    [
        ((0, 0), "every rank holds the shard of rank 0 of tensor, at model.py:4"),
        ((1, 1), "every rank holds the shard of rank 1 of tensor, at model.py:4"),
        ((1, 0), "shards permuted: ranks of tensor hold those of [1, 0], at model.py:4"),
    ],
)
def test_right_blocks_on_the_wrong_ranks_are_named(places: tuple[int, int], said: str) -> None:
    whole = RNG.normal(size=(4, 6))
    blocks = {rank: whole[:, 3 * place : 3 * place + 3] for rank, place in enumerate(places)}
    cut = replace(PRODUCT, operation="slice", place="model.py:4", values=blocks)
    later = replace(
        PRODUCT, number=1, operation="sin", sources=(0,), values={r: np.sin(3 * x) for r, x in blocks.items()}
    )
    wide = Intermediates(values=(cut, later), observed={"outputs/y": (1,)})
    twin = Intermediates(values=(replace(PRODUCT, values={0: whole}),))
    first = next(first_divergence(wide, twin, Mesh.parse("tensor=2"), "outputs/y"))
    assert (first.cause, first.axis) == (said, "tensor")


def test_a_place_along_another_axis_is_named() -> None:
    """Every rank takes the shard that has the number of its place along data; a control takes its own."""
    mesh, whole = Mesh.parse("data=2,fsdp=4"), RNG.normal(size=(4, 3))
    places = {rank: mesh.coordinates(rank) for rank in range(mesh.devices)}
    owners = {rank: place["data"] for rank, place in places.items()}
    blocks = {rank: whole[owner : owner + 1] for rank, owner in owners.items()}
    wide = Intermediates(values=(replace(PRODUCT, operation="slice", values=blocks),), observed={"outputs/y": (0,)})
    cause = next(
        first_divergence(wide, Intermediates(values=(replace(PRODUCT, values={0: whole}),)), mesh, "outputs/y")
    )
    words = "the place along data is taken for that along fsdp: ranks hold the shard with that number"
    assert (cause.cause, cause.axis) == (f"{words}, at model.py:3", "fsdp")
    assert whose({rank: place["fsdp"] for rank, place in places.items()}, "fsdp", mesh) is None


def test_a_fused_value_that_each_rank_cuts_for_itself_is_named() -> None:
    """[q | k] in two contiguous blocks: the first rank has all of q, and takes half of it for k."""
    fused = RNG.normal(size=(3, 8))
    blocks = {rank: fused[:, 4 * rank : 4 * rank + 4] for rank in (0, 1)}
    product = replace(PRODUCT, values=blocks)
    q, k = (
        replace(
            PRODUCT,
            number=n,
            operation="split",
            place="model.py:4",
            sources=(0,),
            values={r: x[:, part] for r, x in blocks.items()},
        )
        for n, part in ((1, slice(0, 2)), (2, slice(2, 4)))
    )
    wide = Intermediates(values=(product, q, k), observed={"outputs/y": (1, 2)})
    halves = [
        replace(PRODUCT, number=n, operation="split", sources=(0,), values={0: x})
        for n, x in ((1, fused[:, :4]), (2, fused[:, 4:]))
    ]
    twin = Intermediates(values=(replace(PRODUCT, values={0: fused}), *halves))
    first = next(first_divergence(wide, twin, Mesh.parse("tensor=2"), "outputs/y"))
    assert first.cause.startswith("the sections of a fused value are cut across: tensor divides dim 1 of it")
    assert first.axis == "tensor"


def _first_of(held: dict[int, np.ndarray], whole: np.ndarray, operation: str, *further: Intermediate) -> Cause:
    """What is said of the first wrong operation, whose operand is an input; one device has the whole value."""
    wrong = replace(PRODUCT, operation=operation, place="model.py:4", values=held)
    after = further or (
        replace(PRODUCT, number=9, operation="sin", sources=(0,), values={r: np.sin(3 * x) for r, x in held.items()}),
    )
    wide = Intermediates(values=(wrong, *after), observed={"outputs/y": (9,)})
    return next(
        first_divergence(
            wide, Intermediates(values=(replace(PRODUCT, values={0: whole}),)), Mesh.parse("tensor=2"), "outputs/y"
        )
    )


def test_another_order_on_some_ranks_is_named() -> None:
    whole = RNG.normal(size=(5, 2))
    said = _first_of({0: whole, 1: whole[:, ::-1]}, whole, "select_n")
    assert said.cause == "elements permuted along dim 1 on positions [1], at model.py:4"
    assert said.axis == "tensor"


def test_another_order_on_all_ranks_is_on_no_axis() -> None:
    whole = RNG.normal(size=(5, 3))
    said = _first_of({0: whole[[1, 0, 2, 4, 3]], 1: whole[[1, 0, 2, 4, 3]]}, whole, "gather")
    assert (said.cause, said.axis) == ("elements permuted along dim 0, at model.py:4", None)


def test_what_is_not_masked_before_a_sum_is_named() -> None:
    """Each rank looks up all labels; it owns some, and has another row for the others."""
    whole, held = RNG.normal(size=6), {}
    for rank, own in ((0, slice(0, 4)), (1, slice(4, 6))):
        held[rank] = RNG.normal(size=6)
        held[rank][own] = whole[own]
    total = replace(
        PRODUCT,
        number=9,
        operation="all_reduce",
        axes=("tensor",),
        sources=(0,),
        values=dict.fromkeys((0, 1), held[0] + held[1]),
    )
    said = _first_of(held, whole, "gather", total)
    assert said.cause.startswith("not masked: ranks of tensor that do not own an element add something else")
    assert said.axis == "tensor"


def test_an_operation_that_only_moves_elements_is_named() -> None:
    """Its operand is right, and nothing on one device has this order."""
    whole = RNG.normal(size=(2, 3))
    operand = replace(PRODUCT, values={0: whole, 1: whole})
    turned = replace(
        PRODUCT, number=1, operation="transpose", place="model.py:4", sources=(0,), values={0: whole.T, 1: whole.T}
    )
    after = replace(PRODUCT, number=2, operation="sin", sources=(1,), values={r: np.sin(3 * whole.T) for r in (0, 1)})
    wide = Intermediates(values=(operand, turned, after), observed={"outputs/y": (2,)})
    said = next(
        first_divergence(
            wide, Intermediates(values=(replace(PRODUCT, values={0: whole}),)), Mesh.parse("tensor=2"), "outputs/y"
        )
    )
    assert said.cause == "right elements in the wrong places: transpose at model.py:4"


@pytest.mark.parametrize("dim", [0, 1])
def test_a_block_whose_slices_are_repeated_is_known_by_one_of_each(dim: int) -> None:
    """Heads of keys, each as often as there are heads of queries that share it; one device repeats nothing."""
    whole = RNG.normal(size=(4, 6))
    blocks = {rank: np.repeat(part, 3, axis=dim) for rank, part in enumerate(np.split(whole, 2, axis=dim))}
    matcher = Matcher(Intermediates(values=(replace(PRODUCT, values={0: whole}),)), Mesh.parse("tensor=2"))
    match = matcher.match(replace(PRODUCT, values=blocks))
    assert match is not None
    assert match.dims == (("tensor", dim),)
    wrong = {rank: block + (rank == 1) for rank, block in blocks.items()}
    assert matcher.match(replace(PRODUCT, values=wrong)) is None


def test_what_has_no_counterpart_on_one_device_is_no_line_of_its_own() -> None:
    """The maximum over a rank's own block is none of one device's values: the fault lies up to the first one owed."""
    said = _program(RNG.normal(size=(4, 6)), summed=False)
    owed = replace(PRODUCT, number=6, operation="exp", place="model.py:9", sources=(5, 0))
    owed = replace(owed, values={rank: np.exp(block) for rank, block in said.values[-1].values.items()})
    product = replace(PRODUCT, values={r: STREAM for r in range(4)})
    wide = Intermediates(values=(product, replace(said.values[-1], sources=(0,)), owed))
    wide = replace(wide, observed={"outputs/y": (6,)})
    values = (replace(PRODUCT, values={0: STREAM}), replace(owed, number=1, sources=(0,), values={0: np.exp(STREAM)}))
    twin = Intermediates(values=values, observed={"outputs/y": (1,)})
    cause = next(iter(first_divergence(wide, twin, MESH, "outputs/y")))
    assert cause.cause == "parts from what one device has: from sin at model.py:5 to exp at model.py:9, forward pass"
    assert cause.basis.endswith("on the way lie model.py:5 9")
