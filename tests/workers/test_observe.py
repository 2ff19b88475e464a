"""What the workers say that each rank holds: copies merged by their bits, padding dropped, nothing made up."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Evidence, Observed
from conformance.evidence.gather import covered, gathered
from conformance.workers.pool import Workers
from tests.workers.conftest import job

MESH = "tensor=4@shuffled"


@pytest.fixture(scope="module")
def evidence(workers: Workers) -> Callable[[str], Evidence]:
    known: dict[str, Evidence] = {}

    def of(framework: str) -> Evidence:
        if framework not in known:
            outcome = workers.run(job(framework, "Shapes", MESH), 120)
            assert outcome.evidence is not None, outcome.reason + outcome.stack
            known[framework] = outcome.evidence
        return known[framework]

    return of


@pytest.fixture
def seen(evidence: Callable[[str], Evidence], framework: str) -> dict[str, Observed]:
    return evidence(framework).steps[0]


def test_order_is_the_implementations_then_the_state(seen: dict[str, Observed]) -> None:
    names = list(seen)
    assert names[:4] == ["number", "array", "signs", "rows"]
    assert names[-1] == "parameters/w"


@pytest.mark.parametrize("name", ["number", "array", "signs", "parameters/w"])
def test_equal_copies_are_one_block_of_all_ranks(seen: dict[str, Observed], name: str) -> None:
    """NaN is a copy of NaN."""
    [block] = seen[name].blocks
    assert block.ranks == (0, 1, 2, 3)


def test_a_block_lies_where_its_rank_sits_in_the_mesh(seen: dict[str, Observed]) -> None:
    """Rank r of the permuted mesh holds rows 2r and 2r + 1, whichever device that is."""
    for block in seen["rows"].blocks:
        [rank] = block.ranks
        assert block.index[0] == slice(2 * rank, 2 * rank + 2)
        assert np.array_equal(block.value, np.arange(16.0).reshape(8, 2)[2 * rank : 2 * rank + 2])
    assert set(seen["rows"].stored_bytes.values()) == {2 * 2 * 8}


def test_bfloat16_travels_as_float32_and_keeps_its_name(seen: dict[str, Observed]) -> None:
    observed = seen["narrow"]
    assert observed.dtype == "bfloat16"
    assert set(observed.stored_bytes.values()) == {2 * 2}
    assert {block.value.dtype for block in observed.blocks} == {np.dtype("float32")}
    whole = gathered(observed, Mesh.parse(MESH))
    assert np.abs(whole - np.arange(8) / 3).max() < 2**-7
    assert whole[1] != np.float32(1 / 3), "rounded to bfloat16"


def test_padding_is_dropped_but_its_bytes_count(seen: dict[str, Observed]) -> None:
    observed = seen["padded"]
    assert (observed.shape, observed.stored_shape) == ((6,), (8,))
    assert np.array_equal(gathered(observed, Mesh.parse(MESH)), np.arange(6.0))
    assert set(observed.stored_bytes.values()) == {2 * 8}
    assert covered(observed).all()


def test_repeated_elements_keep_every_copy(seen: dict[str, Observed]) -> None:
    observed = seen["repeated"]
    held = {rank: np.arange(4)[block.index[0]].tolist() for block in observed.blocks for rank in block.ranks}
    assert held == {rank: [rank, rank] for rank in range(4)}
    assert np.array_equal(gathered(observed, Mesh.parse(MESH)), np.arange(4.0))


def test_state_is_of_its_own_moment(evidence: Callable[[str], Evidence], framework: str, workers: Workers) -> None:
    """A step that works in place does not reach back into what was observed before it."""
    gathered = workers.run(job(framework, "Right", "tensor=2"), 120).evidence
    assert gathered is not None
    start, after = gathered.initial["parameters/w"], [step["parameters/w"] for step in gathered.steps]
    values = [observed.blocks[0].value for observed in (start, *after)]
    gradients = [step["gradients/w"].blocks[0].value for step in gathered.steps]
    for before, now, gradient in zip(values, values[1:], gradients, strict=False):
        assert np.array_equal(before - gradient, now)


# What one framework alone has.


def test_jax_array_on_one_device_is_held_by_that_rank_only(evidence: Callable[[str], Evidence]) -> None:
    observed = evidence("jax").steps[0]["one device"]
    assert [block.ranks for block in observed.blocks] == [(1,)]


def test_plain_numbers_use_no_device(workers: Workers, framework: str) -> None:
    gathered = workers.run(job(framework, "Plain", "tensor=2"), 120).evidence
    assert gathered is not None
    assert gathered.steps[0]["loss"].blocks[0].ranks == (0, 1)
    assert gathered.devices == ()


def test_torch_uneven_partial_and_differing_copies(evidence: Callable[[str], Evidence]) -> None:
    seen = evidence("torch").steps[0]
    sizes = {rank: len(block.value) for block in seen["uneven"].blocks for rank in block.ranks}
    assert {rank: sizes.get(rank, 0) for rank in range(4)} == {0: 2, 1: 2, 2: 1, 3: 0}
    assert np.array_equal(gathered(seen["uneven"], Mesh.parse(MESH)), np.arange(5.0))
    assert {block.partial for block in seen["partial"].blocks} == {("tensor",)}
    assert gathered(seen["partial"], Mesh.parse(MESH)).tolist() == [1.0 + 2 + 3 + 4]
    assert [block.ranks for block in seen["copies"].blocks] == [(0, 1), (2, 3)], "0.0 and -0.0 are other bits"
    assert len(seen["replicated"].blocks) == 1
