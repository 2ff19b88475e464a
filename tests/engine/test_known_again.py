"""What is known again of a step: shards of uneven dims, what is filled up, what a ring has brought, whole numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.compared import Compared
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import APART, Intermediate, Intermediates, as_inputs, of_programs
from conformance.records.results import Cause
from tests.engine.values_inside import at

RNG = np.random.default_rng(0)
MESH = Mesh.parse("tensor=2")
RING = Mesh.parse("sequence=4")
OUTPUT = "outputs/y"


def _said(wide: list[Intermediate], twin: list[Intermediate], mesh: Mesh = MESH) -> Cause:
    programs = [Intermediates(values=tuple(each), observed={OUTPUT: (each[-1].number,)}) for each in (wide, twin)]
    return next(iter(first_divergence(*programs, mesh, OUTPUT)))


def _filled_up(whole: np.ndarray, fill: float) -> dict[int, np.ndarray]:
    """Seven columns on two ranks, four each: the last one holds something else."""
    longer = np.concatenate([whole, np.full((len(whole), 1), fill)], axis=1)
    return {0: longer[:, :4], 1: longer[:, 4:]}


WHOLE = RNG.normal(size=(3, 7))


@pytest.mark.parametrize("fill", [0.0, 5.0])
def test_a_shard_that_is_filled_up_is_known_whatever_fills_it_up(fill: float) -> None:
    matcher = Matcher(Intermediates(values=(at(0, "mm", {0: WHOLE}),)), MESH)
    match = matcher.match(at(0, "mm", _filled_up(WHOLE, fill)))
    assert match is not None
    assert match.dims == (("tensor", 1),)
    both = np.concatenate(list(_filled_up(WHOLE, fill).values()), axis=1)
    assert matcher.match(at(0, "mm", {0: both, 1: both})) is not None, "whole, and filled up"
    shorter = {0: WHOLE[:, :4], 1: WHOLE[:, 4:]}
    assert matcher.match(at(0, "mm", shorter)) is not None, "the last rank has less"
    wrong = {0: WHOLE[:, :4], 1: WHOLE[:, 4:] + 1.0}
    assert matcher.match(at(0, "mm", wrong)) is None


def test_what_fills_a_shard_up_and_is_summed_with_it_is_named() -> None:
    held = _filled_up(WHOLE, 5.0)
    sums = {rank: block.sum(1) for rank, block in held.items()}
    total = dict.fromkeys((0, 1), sums[0] + sums[1])
    wide = [at(0, "exp", held), at(1, "sum", sums, 0), at(2, "all_reduce", total, 1, axes=("tensor",))]
    said = _said(wide, [at(0, "exp", {0: WHOLE}), at(1, "sum", {0: WHOLE.sum(1)}, 0)])
    assert said.cause == "what fills the last shard of tensor up is not masked: it is counted by sum at model.py:1"
    assert said.axis == "tensor"


def test_uneven_shards_on_the_wrong_ranks_are_named() -> None:
    held = _filled_up(WHOLE, 0.0)
    wide = [
        at(0, "slice", {0: held[1], 1: held[0]}),
        at(1, "sin", {r: np.sin(3 * held[1 - r]) for r in (0, 1)}, 0),
    ]
    said = _said(wide, [at(0, "mm", {0: WHOLE})])
    assert said.cause == "shards permuted: ranks of tensor hold those of [1, 0], at model.py:0"


def test_a_block_of_nothing_but_what_fills_up_is_nothing() -> None:
    """Six rows over four ranks: the last one has none, and what it holds may be anything."""
    matcher = Matcher(Intermediates(values=(at(0, "mm", {0: RNG.normal(size=(6, 26))}),)), RING)
    assert matcher.match(at(1, "sum", {2: RNG.normal(size=(1, 14))})) is None
    assert matcher.match(at(1, "sum", {3: RNG.normal(size=(2, 26))})) is None


def test_what_a_step_begins_with_is_known_too() -> None:
    x = RNG.normal(size=(4, 6))
    twin = Intermediates(values=(), inputs=as_inputs({"inputs": x, "large": np.zeros((1 << 9, 1 << 8))}))
    assert len(twin.inputs) == 1, "large arrays are not kept"
    assert Matcher(twin, MESH).match(at(3, "gather", {0: x[:2], 1: x[2:]})) is not None


def test_a_block_that_a_message_has_brought_is_right_and_one_that_was_taken_is_not() -> None:
    """In the first step of a ring every rank has the block of the one before it."""
    whole = RNG.normal(size=(8, 5))
    moved = {rank: whole[2 * ((rank + 3) % 4) :][:2] for rank in range(4)}
    twin = Intermediates(values=(at(0, "mm", {0: whole}),))
    for operation, known in (("permute", True), ("slice", False)):
        wide = Intermediates(values=(at(0, operation, moved),), observed={OUTPUT: (0,)})
        assert (Compared(wide, twin, RING, OUTPUT).matches[0] is not None) is known


def test_a_product_of_what_came_with_what_is_there_is_known() -> None:
    """Rows have come from the rank before, columns are the own ones."""
    whole = RNG.normal(size=(8, 12))
    blocks = {rank: whole[2 * ((rank + 3) % 4) :][:2, 3 * rank : 3 * rank + 3] for rank in range(4)}
    assert Matcher(Intermediates(values=(at(0, "mm", {0: whole}),)), RING).match(at(0, "mm", blocks)) is not None


IDS = RNG.permutation(40)[:12].reshape(3, 4).astype(float)
TABLE = RNG.normal(size=40)


def _looked_up(ids: Mapping[int, np.ndarray]) -> list[Intermediate]:
    """Ids are cut, moved on by one, and what stands there is looked up."""
    moved = {rank: np.roll(part, -1, axis=1) for rank, part in ids.items()}
    rows = {rank: TABLE[part.astype(int)] for rank, part in moved.items()}
    return [
        at(0, "slice", ids, dtype="int64"),
        at(1, "roll", moved, 0, dtype="int64"),
        at(2, "sin", dict.fromkeys(ids, TABLE)),
        at(3, "gather", rows, 1, 2),
    ]


def test_the_line_is_named_where_indices_part() -> None:
    said = _said(_looked_up({0: IDS[:, :2], 1: IDS[:, 2:]}), _looked_up({0: IDS}))
    assert said.cause.startswith("parts from what one device has: gather at model.py:3")
    assert "whose indices part at roll at model.py:1" in said.cause
    assert said.place


def test_whole_numbers_alone_are_told_where_all_else_is_right() -> None:
    count = RNG.permutation(8).astype(float)
    wide = [
        at(0, "cumsum", {0: count, 1: count[::-1]}, dtype="int64"),
        at(1, "convert", {0: 1.0 * (count > 3), 1: 1.0 * (count < 4)}, 0),
    ]
    said = _said(wide, [at(0, "cumsum", {0: count}, dtype="int64"), at(1, "convert", {0: 1.0 * (count > 3)}, 0)])
    assert said.cause == "whole numbers part from what one device has: cumsum at model.py:0, forward pass"


@pytest.mark.parametrize("operation", ["mul", "bitwise_right_shift"])
def test_random_words_are_no_indices(operation: str) -> None:
    """The halves of words are small; a rank draws its own, and hides what one device hides."""
    word = RNG.integers(1 << 31, 1 << 32, size=(2, 8)).astype(float)
    words = word if operation == "mul" else np.floor(word / (1 << 16))
    twin = [at(0, operation, {0: words[0]}, dtype="int64"), at(1, "sin", {0: np.sin(IDS)}, 0)]
    for drawn in words:
        wide = [at(0, operation, dict.fromkeys((0, 1), drawn), dtype="int64")]
        wide.append(at(1, "convert", dict.fromkeys((0, 1), np.ones(8)), 0))
        programs = [Intermediates(values=tuple(each), observed={OUTPUT: (1,)}) for each in (wide, twin)]
        assert list(first_divergence(*programs, MESH, OUTPUT)) == []


def test_nothing_is_said_of_indices_where_a_message_brings_what_nobody_has_seen() -> None:
    count = RNG.permutation(8).astype(float)
    counted = at(0, "cumsum", {0: count, 1: count[::-1]}, dtype="int64")
    came = at(1, "permute", dict.fromkeys((0, 1), RNG.normal(size=8)))
    made = at(2, "index", {rank: came.values[rank][counted.values[rank].astype(int)] for rank in (0, 1)}, 1, 0)
    twin = [at(0, "cumsum", {0: count}, dtype="int64"), at(2, "index", {0: RNG.normal(size=8)}, 0)]
    programs = [Intermediates(values=tuple(each), observed={OUTPUT: (2,)}) for each in ((counted, came, made), twin)]
    assert list(first_divergence(*programs, MESH, OUTPUT)) == []


def test_an_extreme_in_another_shape_is_no_missing_mask() -> None:
    """Of the largest element one rank always has the right one."""
    parts = {0: RNG.normal(size=(6, 3)), 1: RNG.normal(size=(6, 3))}
    own = {rank: part.max(1) for rank, part in parts.items()}
    spread = {rank: each[:, None] for rank, each in own.items()}
    both = np.maximum(own[0], own[1])
    sums = {rank: np.exp(part - spread[rank]).sum(1) for rank, part in parts.items()}
    total = dict.fromkeys((0, 1), sums[0] + sums[1])
    wide = [
        at(0, "reduce_max", own),
        at(1, "broadcast_in_dim", spread, 0),
        at(2, "reduce_sum", sums, 1),
        at(3, "all_reduce", total, 2, axes=("tensor",)),
    ]
    assert "not masked" not in _said(wide, [at(0, "reduce_max", {0: both})]).cause


def test_the_largest_of_a_hidden_block_is_no_mask() -> None:
    """A rank whose keys are all hidden has minus infinity there, and elsewhere the right one."""
    scores = np.where(np.tri(8, dtype=bool), RNG.normal(size=(8, 8)), -np.inf)
    blocks = {rank: scores[2 * rank : 2 * rank + 2, :4] for rank in range(4)}
    largest = {rank: block.max(1) for rank, block in blocks.items()}
    largest[0] = np.full(2, -np.inf)
    wide = [
        at(0, "amax", largest),
        at(1, "sin", {rank: np.sin(np.maximum(block[0], -3.0)) for rank, block in blocks.items()}, 0),
    ]
    twin = [at(0, "amax", {0: scores[:, :4].max(1)})]
    assert "mask" not in _said(wide, twin, RING).cause


def test_parts_of_what_is_whole_are_right_and_their_order_is_not() -> None:
    """Shards are gathered, cut out one by one, and laid side by side backwards."""
    whole = RNG.normal(size=(4, 3))
    parts = [whole[:2], whole[2:]]
    cuts = [at(n, "slice", dict.fromkeys((0, 1), part[None]), 0) for n, part in enumerate(parts, 1)]
    cuts += [at(n + 10, "squeeze", dict.fromkeys((0, 1), part), n) for n, part in enumerate(parts, 1)]
    turned = at(13, "concatenate", dict.fromkeys((0, 1), whole[[2, 3, 0, 1]]), 11, 12)
    wide = [at(0, "all_gather", dict.fromkeys((0, 1), whole), axes=("tensor",)), *cuts, turned]
    said = _said(
        [*wide, at(14, "sin", dict.fromkeys((0, 1), np.sin(3 * turned.values[0])), 13)],
        [at(0, "mul", {0: whole})],
    )
    assert said.cause == "elements permuted along dim 0, at model.py:13"


def test_a_block_that_is_rolled_is_no_fused_value() -> None:
    """Every rank moves its own features on by one: it cuts them in two, and lays them side by side the other way."""
    whole = RNG.normal(size=(3, 8))
    blocks = {0: whole[:, :4], 1: whole[:, 4:]}
    last, front = ({rank: block[:, part] for rank, block in blocks.items()} for part in (slice(3, 4), slice(0, 3)))
    turned = {rank: np.roll(block, 1, axis=1) for rank, block in blocks.items()}
    wide = [
        at(0, "mul", blocks),
        at(1, "slice", last, 0),
        at(2, "slice", front, 0),
        at(3, "concatenate", turned, 1, 2),
        at(4, "sin", {rank: np.sin(3 * block) for rank, block in turned.items()}, 3),
    ]
    assert _said(wide, [at(0, "mul", {0: whole})]).cause == "elements permuted along dim 1, at model.py:3"


def test_a_sum_of_copies_is_told_whatever_they_are() -> None:
    copy = RNG.normal(size=5)
    twin = [at(0, "sin", {0: copy})]
    summed = at(1, "all_reduce", dict.fromkeys((0, 1), 2 * copy), 0, axes=("tensor",))
    said = _said([at(0, "sin", dict.fromkeys((0, 1), copy)), summed], twin)
    assert said.cause == "summed twice: size-of-axis times too large: all_reduce over tensor at model.py:1"


def test_a_sum_of_different_blocks_is_no_factor() -> None:
    blocks = {0: WHOLE[:, :3], 1: WHOLE[:, 3:6]}
    summed = at(1, "all_reduce", dict.fromkeys((0, 1), blocks[0] + blocks[1]), 0, axes=("tensor",))
    said = _said([at(0, "sin", blocks), summed], [at(0, "sin", {0: WHOLE[:, :6]})])
    words = "a sum done too often: tensor divides the operand, so that different blocks are added up"
    assert (said.cause, said.axis) == (f"{words}: all_reduce over tensor at model.py:1", "tensor")


@pytest.mark.parametrize(
    ("phase", "alone", "said"), [("forward", False, True), ("forward", True, False), ("backward", False, False)]
)
def test_what_lies_on_one_rank_is_no_part_of_a_sum(phase: str, alone: bool, said: bool) -> None:
    """Rows that one rank each has: still to be summed in the forward pass, a rank's own in the backward pass."""
    own = np.arange(3)[:, None] < (3 if alone else 2)
    blocks = {0: np.where(own, WHOLE, 0.0), 1: np.where(own, 0.0, WHOLE)}
    wide = [
        replace(at(0, "mul", blocks), phase=phase),
        replace(at(1, "sin", {rank: np.sin(3 * block) + 1 for rank, block in blocks.items()}, 0), phase=phase),
    ]
    cause = _said(wide, [at(0, "mul", {0: WHOLE})]).cause
    assert cause.startswith("reduction missing") is said


def test_what_no_line_of_one_device_makes_is_no_multiple_of_its_operand() -> None:
    """An average of the same two things has a factor to either, which says nothing."""
    block = {0: WHOLE[:, :3], 1: WHOLE[:, 3:6]}
    wide = [at(0, "sin", block), at(1, "add", {rank: x / 0.9 for rank, x in block.items()}, 0)]
    assert "times" not in _said(wide, [at(0, "sin", {0: WHOLE[:, :6]})]).cause


def _stages(used: int) -> tuple[list[Intermediate], list[Intermediate]]:
    """Two microbatches on one line, laid side by side; `used` is the one that is taken second."""
    parts = [RNG.normal(size=(2, 3)) for _ in range(2)]
    twin = [at(n, "mm", {0: part}, place="stage.py:5") for n, part in enumerate(parts)]
    whole = np.concatenate(parts)
    wide = [replace(value, values=dict.fromkeys((0, 1), parts[n])) for n, value in enumerate(twin)]
    held = np.concatenate([parts[0], parts[used]])
    twin.append(at(2, "cat", {0: whole}, 0, 1, place="stage.py:9"))
    wide.append(at(2, "cat", dict.fromkeys((0, 1), held), 0, used, place="stage.py:9"))
    return wide, twin


def test_a_value_of_another_microbatch_is_named() -> None:
    said = _said(*_stages(used=0), Mesh.parse("pipeline=2"))
    words = "a value of another microbatch, or a stale one, is used: operand 1 of cat at stage.py:9"
    assert said.cause == f"{words} is what mm at stage.py:5 makes, of another turn than one device takes there"


def test_stages_are_programs_of_their_own() -> None:
    """What the first stage computes stands beside what the second does, and not in its place."""
    first, second = (RNG.normal(size=4) for _ in range(2))
    scales = as_inputs({"scale": np.ones(4)})
    parts = [
        Intermediates(values=(at(0, "mm", {rank: x}),), observed={OUTPUT: (0,) if rank else ()}, unseen=scales)
        for rank, x in enumerate((first, second))
    ]
    both = of_programs(parts, [0, 1])
    assert both.unseen == scales
    assert [value.number for value in both.values] == [0, APART]
    assert both.observed == {OUTPUT: (APART,)}
    alike = of_programs(parts, [0, 0])
    assert [set(value.values) for value in alike.values] == [{0, 1}]
