"""What a rank's own part of a value shows, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.evidence.intermediates import Intermediate, Intermediates

RNG = np.random.default_rng(0)
PRODUCT = Intermediate(number=0, operation="dot_general", place="model.py:3", phase="forward", sources=())
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
    why, where, *_ = _causes(wide, twin)
    words = "right rows, of other places than those that they are combined with: operand 1 of add at model.py:6"
    assert why == f"{words}, which slice at model.py:5 makes"
    assert where.endswith(
        "from slice at model.py:1 up to there every row is one that one device has, in its place or in another"
    )


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


def test_zeros_where_one_device_has_no_such_line_are_no_mask() -> None:
    """What a ring has seen of the first block: of rows that see no other, it is what one device has."""
    x = RNG.normal(size=(8, 3))
    held = np.where(np.arange(8)[:, None] % 4 == 3, 0, x)
    wide = (_at(0, "copy", (), [x[:4], x[4:]]), _at(1, "select_n", (0,), [held[:4], held[4:]]))
    twin = (_at(0, "copy", (), [x]), _at(1, "mul", (0,), [3 * x]))
    assert not [words for words in _causes(wide, twin) if "mask" in words]


def test_zeros_on_all_ranks_but_one_are_no_mask() -> None:
    """The last stage of a pipeline hands its rows on, and what one device has there is as large and has zeros too."""
    x = RNG.normal(size=(8, 3))
    whole = np.concatenate([np.zeros((2, 3)), x[2:]])
    held = [np.zeros((4, 3)), x[4:]]
    wide = (_at(0, "copy", (), [x[:4], x[4:]]), _at(1, "select_n", (0,), held))
    twin = (_at(0, "copy", (), [x]), _at(1, "select_n", (0,), [whole]))
    assert not [words for words in _causes(wide, twin) if "mask" in words]


def test_a_mask_that_one_device_lays_on_another_block_is_said_so() -> None:
    x, seen = RNG.normal(size=(8, 4)), np.tril(np.ones((8, 4), dtype=bool), -1)
    whole, swapped = np.where(seen, x, -np.inf), np.concatenate([seen[4:], seen[:4]])
    held = np.where(swapped, x, -np.inf)
    wide = (_at(0, "copy", (), [x[:4], x[4:]]), _at(1, "select_n", (0,), [held[:4], held[4:]]))
    other = np.concatenate([whole[4:], whole[:4]])  # another value of one device, in which these are hidden
    twin = (_at(0, "copy", (), [x]), _at(1, "select_n", (0,), [whole]), _at(2, "concatenate", (1,), [other]))
    assert (
        _causes(wide, twin)[0]
        == "another mask than on one device, that of another block: select_n at model.py:1, forward pass"
    )


@pytest.mark.parametrize("added", [True, False])
def test_a_gradient_that_lacks_one_of_its_uses_is_named(added: bool) -> None:
    first, second = RNG.normal(size=(2, 4, 3))
    terms = (_at(1, "scatter-add", (), [first]), _at(2, "transpose", (), [second]))
    twin = (*terms, _at(3, "add_any", (1, 2), [first + second]))
    held = first + second if added else second
    wide = (_at(1, "transpose", (), [held, held]),)
    said = ["a term of the sum is missing: scatter-add at model.py:1"]
    assert _causes(wide, twin) == ([] if added else said)
