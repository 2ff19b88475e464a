"""What states hold in memory: each memory once, what a step takes over, and what is kept twice."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from conformance.workers.buffers import Buffer, copies, distinct, reused, total
from conformance.workers.pool import Workers
from tests.workers.conftest import job

W, M = np.arange(6.0), np.arange(6.0) / 7


def _buffer(path: str, array: np.ndarray, memory: int, rank: int = 0) -> Buffer:
    return Buffer(path=path, rank=rank, memory=memory, bytes=array.nbytes, read=lambda: array)


def _paths(state: Sequence[Buffer], collected: Sequence[Buffer]) -> list[tuple[str, str, dict[int, int]]]:
    return [(copy.path, copy.parameter, dict(copy.bytes)) for copy in copies(state, collected)]


def test_a_memory_counts_once_on_each_rank() -> None:
    buffers = distinct([_buffer("a", W, 1), _buffer("view of a", W, 1), _buffer("a", W, 1, rank=1)])
    assert total(buffers) == {0: 48, 1: 48}


def test_what_a_step_takes_over_is_what_lies_in_the_same_memory() -> None:
    before = [_buffer("w", W, 1), _buffer("m", M, 2), _buffer("w", W, 1, rank=1)]
    assert reused(before, [_buffer("w", W, 9), _buffer("m", M, 2), _buffer("m", M, 1)]) == {0: 96}


def test_a_parameter_that_lies_there_twice() -> None:
    collected = [_buffer("parameters/w", W, 1), _buffer("optimizer/momentum/w", M, 2)]
    state = [_buffer("p", W, 1), _buffer("m", M, 2), _buffer("spare", W.copy(), 3)]
    assert _paths(state, collected) == [("p and spare", "parameters/w", {0: 48})]


def test_what_is_handed_over_as_a_copy_is_not_there_twice() -> None:
    collected = [_buffer("parameters/w", W.copy(), 7), _buffer("optimizer/master/w", W.copy(), 8)]
    kept = [_buffer("p", W, 1), _buffer("master", W.copy(), 2), _buffer("other bits", W + 1, 3)]
    assert _paths(kept, collected) == []


def test_an_array_of_one_value_is_no_copy() -> None:
    zeros = [_buffer(name, np.zeros(6), place) for place, name in enumerate("abc")]
    assert _paths(zeros, [_buffer("parameters/b", np.zeros(6), 9)]) == []


def test_workers_see_the_state(workers: Workers, framework: str) -> None:
    """The weight on both ranks, [6, 5] in float64; torch updates it in place, the JAX program makes a new one."""
    evidence = workers.run(job(framework, "Right"), 120).evidence
    assert evidence is not None
    assert evidence.state is not None
    assert evidence.state.held == evidence.state.before == {0: 240, 1: 240}
    assert evidence.state.reused == ({} if framework == "jax" else {0: 240, 1: 240})
