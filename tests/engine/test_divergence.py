"""What the values of a step show of an operation on a partial sum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.divergence import first_divergence
from conformance.diagnosis.matching import Matcher
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
        ((0, 0), "every rank uses the shard of rank 0 of tensor, at model.py:4"),
        ((1, 1), "every rank uses the shard of rank 1 of tensor, at model.py:4"),
        ((1, 0), "shards permuted: ranks of tensor use those of [1, 0], at model.py:4"),
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


RING = Mesh.parse("sequence=4")
SCORES = np.where(np.tri(8, dtype=bool), RNG.normal(size=(2, 8, 8)), -np.inf)


def _step(step: int, mask: np.ndarray) -> dict[int, np.ndarray]:
    """Scores of each rank's queries with the keys that have come from `step` ranks away."""
    full = np.where(mask, np.nan_to_num(SCORES, neginf=3.0), -np.inf)
    columns = {rank: slice(2 * ((rank + step) % 4), 2 * ((rank + step) % 4) + 2) for rank in range(4)}
    return {rank: full[:, 2 * rank : 2 * rank + 2, columns[rank]] for rank in range(4)}


@pytest.mark.parametrize("step", [0, 1, 3])
def test_what_a_ring_holds_is_known_again_beneath_its_mask(step: int) -> None:
    twin = Intermediates(values=(replace(PRODUCT, values={0: SCORES}),))
    right = replace(PRODUCT, values=_step(step, np.tri(8, dtype=bool)))
    match = Matcher(twin, RING).match(right)
    assert match is not None
    assert ("sequence", 1) in match.dims
    wrong = replace(PRODUCT, values={rank: block + 0.01 for rank, block in right.values.items()})
    assert Matcher(twin, RING).match(wrong) is None


def _masked(step: int, mask: np.ndarray, fill: float) -> list[str]:
    """What is said of a ring whose second block is masked so."""
    products = replace(PRODUCT, values=_step(step, np.ones((8, 8), dtype=bool)))
    values = {r: np.where(np.isinf(x), fill, x) for r, x in _step(step, mask).items()}
    scores = replace(PRODUCT, number=1, operation="where", place="ring.py:7", sources=(0,), values=values)
    largest = replace(PRODUCT, number=2, operation="max", place="ring.py:9", sources=(1,))
    largest = replace(largest, values={rank: block.max(-1) for rank, block in values.items()})
    whole = np.nan_to_num(SCORES, neginf=3.0)
    twin = (
        replace(PRODUCT, values={0: whole}),
        replace(scores, sources=(0,), values={0: np.where(np.isinf(SCORES), fill, whole)}),
    )
    wide = Intermediates(values=(products, scores, largest), observed={"outputs/y": (2,)})
    causes = first_divergence(wide, Intermediates(values=twin, observed={"outputs/y": (1,)}), RING, "outputs/y")
    return [cause.cause for cause in causes]


@pytest.mark.parametrize("fill", [-np.inf, -1e30])
def test_a_mask_that_counts_from_the_first_token_of_a_shard_is_named(fill: float) -> None:
    local = np.tile(np.tri(2, dtype=bool), (4, 4))
    assert "another mask than on one device: where at ring.py:7, forward pass" in _masked(1, local, fill)


@pytest.mark.parametrize("fill", [-np.inf, -1e30])
def test_a_right_mask_is_not_named(fill: float) -> None:
    said = _masked(3, np.tri(8, dtype=bool), fill)
    assert said
    assert not [cause for cause in said if "mask" in cause]


def test_what_has_no_counterpart_on_one_device_is_no_line_of_its_own() -> None:
    """The maximum over a rank's own block is none of one device's values: the fault lies up to the first one owed."""
    said = _program(RNG.normal(size=(4, 6)), summed=False)
    owed = replace(PRODUCT, number=6, operation="exp", place="model.py:9", sources=(5,))
    owed = replace(owed, values={rank: np.exp(block) for rank, block in said.values[-1].values.items()})
    product = replace(PRODUCT, values={r: STREAM for r in range(4)})
    wide = Intermediates(values=(product, replace(said.values[-1], sources=(0,)), owed))
    wide = replace(wide, observed={"outputs/y": (6,)})
    values = (replace(PRODUCT, values={0: STREAM}), replace(owed, number=1, sources=(0,), values={0: np.exp(STREAM)}))
    twin = Intermediates(values=values, observed={"outputs/y": (1,)})
    cause = next(iter(first_divergence(wide, twin, MESH, "outputs/y")))
    assert cause.cause == "parts from what one device has: from sin at model.py:5 to exp at model.py:9, forward pass"
    assert cause.basis.endswith("on the way lie model.py:5 9")


SEQUENCE = Mesh.parse("sequence=2")


def _causes(wide: tuple[Intermediate, ...], twin: tuple[Intermediate, ...]) -> list[str]:
    programs = [Intermediates(values=values, observed={"outputs/y": (values[-1].number,)}) for values in (wide, twin)]
    return [cause.cause for cause in first_divergence(*programs, SEQUENCE, "outputs/y")]


def _at(number: int, operation: str, sources: tuple[int, ...], blocks: list[np.ndarray]) -> Intermediate:
    """On the line of its number; one block on one device."""
    values = dict(enumerate(blocks))
    place = f"model.py:{number}"
    return replace(PRODUCT, number=number, operation=operation, place=place, sources=sources, values=values)


def test_a_right_part_proves_nothing_of_the_rest() -> None:
    """A halo that comes from the wrong side: of what is put together, the rank's own rows are right all the same."""
    x = RNG.normal(size=(8, 3))
    padded = np.concatenate([np.zeros((2, 3)), x])
    own, edges = [x[:4], x[4:]], [x[2:4], x[6:]]
    halos = [edges[1], np.zeros((2, 3))]
    joined = [np.concatenate(pair) for pair in zip(halos, own, strict=True)]
    wide = (
        _at(0, "copy", (), own),
        _at(1, "slice", (0,), edges),
        replace(_at(2, "permute", (1,), halos), axes=("sequence",)),
        _at(3, "concatenate", (0, 2), joined),
        _at(4, "slice", (3,), own),
        _at(5, "slice", (3,), [part[:4] for part in joined]),
        _at(6, "add", (4, 5), [mine + part[:4] for mine, part in zip(own, joined, strict=True)]),
    )
    twin = (
        _at(0, "copy", (), [x]),
        _at(3, "concatenate", (0,), [padded]),
        _at(4, "slice", (3,), [x]),
        _at(5, "slice", (3,), [padded[:8]]),
        _at(6, "add", (4, 5), [x + padded[:8]]),
    )
    [said, *_] = _causes(wide, twin)
    assert said == "parts from what one device has: from slice at model.py:1 to add at model.py:6, forward pass"


def test_a_buffer_is_filled_in_any_order_until_it_is_read() -> None:
    tokens = RNG.normal(size=(4, 3))
    order = [1, 0]
    wide = (
        _at(0, "copy", (), [tokens[:2], tokens[2:]]),
        _at(1, "scatter", (0,), [tokens[:2][order], tokens[2:][order]]),
        _at(2, "mul", (1,), [2.5 * tokens[:2][order] + 1, 2.5 * tokens[2:][order] + 1]),
        _at(3, "gather", (2,), [2.5 * tokens[:2][order] + 1, 2.5 * tokens[2:][order] + 1]),
    )
    turned = tokens[[2, 0, 3, 1]]
    twin = (
        _at(0, "copy", (), [tokens]),
        _at(1, "scatter", (0,), [turned]),
        _at(2, "mul", (1,), [2.5 * turned + 1]),
        _at(3, "gather", (2,), [2.5 * tokens + 1]),
    )
    said = _causes(wide, twin)
    assert said[-1].startswith("parts from what one device has: from scatter at model.py:1 to gather at model.py:3")


def test_a_rank_that_divides_by_its_own_length_is_not_called_a_factor() -> None:
    """A variance of the own features: the sum of squares is divided by 2 here, and by 4 on one device."""
    x = RNG.normal(size=(3, 4))
    parts = [x[:, :2], x[:, 2:]]
    squares = [((part - part.mean(1, keepdims=True)) ** 2).sum(1) for part in parts]
    whole = ((x - x.mean(1, keepdims=True)) ** 2).sum(1)
    wide = (
        _at(0, "copy", (), parts),
        _at(1, "sum", (0,), squares),
        _at(2, "div", (1,), [part / 2 for part in squares]),
    )
    twin = (_at(0, "copy", (), [x]), _at(1, "sum", (0,), [whole]), _at(2, "div", (1,), [whole / 4]))
    said = _causes(wide, twin)
    assert said
    assert not [words for words in said if "times" in words]


def test_an_extreme_of_the_own_part_is_no_missing_mask() -> None:
    """Of every row one of the ranks has the largest element: that is no sum into which others put something else."""
    x = RNG.normal(size=(6, 8))
    parts = [x[:, :4], x[:, 4:]]
    largest = [part.max(1) for part in parts]
    reduced = replace(_at(2, "all_reduce", (1,), [sum(map(np.exp, largest))] * 2), axes=("sequence",))
    wide = (_at(0, "copy", (), parts), _at(1, "reduce_max", (0,), largest), reduced)
    twin = (_at(0, "copy", (), [x]), _at(1, "reduce_max", (0,), [x.max(1)]), _at(2, "exp", (1,), [np.exp(x.max(1))]))
    said = _causes(wide, twin)
    assert said
    assert not [words for words in said if "masked" in words]


def test_a_selection_that_puts_zeros_is_a_mask_too() -> None:
    x = RNG.normal(size=(8, 3))
    kept = np.array([1, 1, 0, 1, 1, 0, 1, 1], dtype=bool)
    wrong = np.array([1, 1, 0, 1, 0, 0, 1, 1], dtype=bool)
    whole, held = np.where(kept[:, None], x, 0), np.where(wrong[:, None], x, 0)
    wide = (_at(0, "copy", (), [x[:4], x[4:]]), _at(1, "select_n", (0,), [held[:4], held[4:]]))
    twin = (_at(0, "copy", (), [x]), _at(1, "select_n", (0,), [whole]))
    assert _causes(wide, twin)[0] == "another mask than on one device: select_n at model.py:1, forward pass"


@pytest.mark.parametrize("added", [True, False])
def test_a_gradient_that_lacks_one_of_its_uses_is_named(added: bool) -> None:
    first, second = RNG.normal(size=(2, 4, 3))
    terms = (_at(1, "scatter-add", (), [first]), _at(2, "transpose", (), [second]))
    twin = (*terms, _at(3, "add_any", (1, 2), [first + second]))
    held = first + second if added else second
    wide = (_at(1, "transpose", (), [held, held]),)
    said = ["a term of the sum is missing: scatter-add at model.py:1"]
    assert _causes(wide, twin) == ([] if added else said)
