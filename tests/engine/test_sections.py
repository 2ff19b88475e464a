"""Values that are divided section by section: right, though no block of what one device has."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.sections import Sections
from conformance.evidence.intermediates import Intermediate, Intermediates
from tests.engine.values_inside import at

RNG = np.random.default_rng(0)
MESH = Mesh.parse("tensor=2")
OUTPUT = "outputs/y"


def _said(wide: list[Intermediate], twin: list[Intermediate]) -> list[str]:
    here, alone = (Intermediates(values=tuple(each), observed={OUTPUT: (each[-1].number,)}) for each in (wide, twin))
    return [cause.cause for cause in first_divergence(here, alone, MESH, OUTPUT)]


def _sectioned(whole: np.ndarray, sizes: tuple[int, ...], rank: int) -> np.ndarray:
    sections = np.split(whole, np.cumsum(sizes)[:-1], axis=-1)
    return np.concatenate([np.split(section, 2, axis=-1)[rank] for section in sections], axis=-1)


def _fused(sizes: tuple[int, ...], contiguous_bias: bool) -> list[str]:
    """x @ [q | k | v], plus a bias, of which every rank has its part of each section; cut in sections afterwards."""
    product, bias = RNG.normal(size=(5, sum(sizes))), RNG.normal(size=sum(sizes))
    x = RNG.normal(size=(5, 3))
    twin = [at(0, "clone", {0: x}), at(1, "mm", {0: product}, 0), at(2, "add", {0: product + bias}, 1)]
    parts = {rank: _sectioned(product, sizes, rank) for rank in (0, 1)}
    biases = np.split(bias, 2) if contiguous_bias else [_sectioned(bias, sizes, rank) for rank in (0, 1)]
    added = {rank: part + biases[rank] for rank, part in parts.items()}
    wide = [at(0, "clone", dict.fromkeys((0, 1), x)), at(1, "mm", parts, 0), at(2, "add", added, 1)]
    ends = np.cumsum(sizes)
    for n, (end, size) in enumerate(zip(ends, sizes, strict=True)):
        own = {rank: block[:, (end - size) // 2 : end // 2] for rank, block in added.items()}
        wide.append(at(3 + n, "split", own, 2))
        twin.append(at(3 + n, "split", {0: (product + bias)[:, end - size : end]}, 2))
    wide.append(at(9, "sin", {rank: np.sin(3 * block) for rank, block in added.items()}, 2))
    twin.append(at(9, "sin", {0: np.sin(3 * (product + bias))}, 2))
    return _said(wide, twin)


@pytest.mark.parametrize("sizes", [(4, 4, 4), (8, 4, 4)])
def test_a_bias_that_is_cut_across_the_sections_is_where_it_goes_wrong(sizes: tuple[int, ...]) -> None:
    said = _fused(sizes, contiguous_bias=True)
    assert said[0].startswith("parts from what one device has: ")
    assert "add at model.py:2" in said[0]
    assert "mm" not in said[0]


@pytest.mark.parametrize("sizes", [(4, 4, 4), (8, 4, 4)])
def test_nothing_is_said_of_sections_that_fit(sizes: tuple[int, ...]) -> None:
    assert _fused(sizes, contiguous_bias=False) == []


def test_rows_that_are_flattened_with_the_sequence_divided_are_known() -> None:
    """Two sequences of six, each cut in two, and multiplied as six rows."""
    whole = RNG.normal(size=(12, 4))
    rows = whole.reshape(2, 6, 4)
    blocks = {rank: rows[:, 3 * rank : 3 * rank + 3].reshape(6, 4) for rank in (0, 1)}
    sections = Sections((), MESH)
    twin = [at(1, "mm", {0: whole})]
    match = sections.match(at(1, "mm", blocks), twin)
    assert match is not None
    assert match.sections == (0, (6, 6))
    assert sections.match(at(1, "mm", {0: blocks[1], 1: blocks[0]}), twin) is None, "those of the other rank"
    assert sections.match(at(1, "transpose", blocks), twin) is None, "it may have put them there wrongly"


@pytest.mark.parametrize("swapped", [False, True])
def test_what_is_put_together_is_right_where_what_is_made_of_it_is(swapped: bool) -> None:
    """Every rank puts its parts of two weights together; one device has them so, and its next line is wrong here."""
    q, k, x = *RNG.normal(size=(2, 3, 4)), RNG.normal(size=(5, 3))
    weight, rank_of = np.concatenate([q, k], axis=1), (0, 1)
    parts = [{rank: np.split(each, 2, axis=1)[rank] for rank in rank_of} for each in (q, k)]
    held = {rank: np.concatenate([part[rank] for part in parts], axis=1) for rank in rank_of}
    made = {rank: x @ (block[:, ::-1] if swapped else block) for rank, block in held.items()}
    wide = [at(n, "clone", part) for n, part in enumerate(parts)]
    wide += [at(2, "cat", held, 0, 1), at(3, "mm", made, 2)]
    wide.append(at(4, "sin", {rank: np.sin(block) + 1.0 for rank, block in made.items()}, 3))
    twin = [at(0, "clone", {0: q}), at(1, "clone", {0: k}), at(2, "cat", {0: weight}, 0, 1)]
    twin += [at(3, "mm", {0: x @ weight}, 2), at(4, "sin", {0: np.sin(x @ weight)}, 3)]
    first = "cat at model.py:2" if swapped else "sin at model.py:4"
    said = _said(wide, twin)[0]
    assert said.startswith("parts from what one device has: ")
    assert first in said
    assert swapped or "cat" not in said
