"""Where a partitioner lays parameters otherwise than they came, their change is still known; and ranks without rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block
from conformance.runner.judge import judge
from tests.engine.specimen import MESH, case_run, sharded


def _of(made: CaseRun, check: str) -> object:
    return next(result for result in judge(made) if result.check == check)


def _b_in_parts(wrong: float = 0.0) -> CaseRun:
    """`b` lay whole on every rank, and lies in four parts along tensor after the first step."""
    made = case_run()
    steps = []
    for step in made.evidence.steps:
        value = step["parameters/b"].blocks[0].value + wrong
        blocks = tuple(
            Block(ranks=(rank,), index=(slice(2 * at, 2 * at + 2),), value=value[2 * at : 2 * at + 2])
            for rank in range(MESH.devices)
            for at in [MESH.coordinates(rank)["tensor"]]
        )
        steps.append(step | {"parameters/b": replace(step["parameters/b"], blocks=blocks)})
    return replace(made, evidence=replace(made.evidence, steps=tuple(steps)))


def test_a_parameter_that_has_moved_is_judged_by_its_values() -> None:
    assert _of(_b_in_parts(), "trajectory").verdict == "pass"
    broken = _of(_b_in_parts(1e-9), "trajectory")
    assert (broken.verdict, broken.first) == ("fail", "step 1: updates/b")
    assert not any("not finite" in cause.cause for cause in broken.diagnosis)


def test_that_it_has_moved_is_said_where_a_layout_is_declared() -> None:
    assert _of(_b_in_parts(), "layout").verdict == "fail"


def test_a_move_from_where_nobody_held_it_is_not_known() -> None:
    made = _b_in_parts()
    start = made.evidence.initial["parameters/b"]
    half = tuple(replace(block, index=(slice(0, 4),), value=block.value[:4]) for block in start.blocks)
    initial = made.evidence.initial | {"parameters/b": replace(start, blocks=half)}
    made = replace(made, evidence=replace(made.evidence, initial=initial))
    assert _of(made, "trajectory").verdict == "fail"


def test_ranks_without_rows_do_not_break_the_diagnosis() -> None:
    """3 rows over 4 ranks leave one with none; what is wrong is named all the same."""
    made = case_run()
    wrong, step = np.arange(24.0).reshape(3, 8), made.evidence.steps[0]
    rows = [slice(min(at, 3), min(at + 1, 3)) for at in range(4)]
    blocks = tuple(
        Block(ranks=(rank,), index=(rows[at], slice(0, 8)), value=wrong[rows[at]])
        for rank in range(MESH.devices)
        for at in [MESH.coordinates(rank)["tensor"]]
    )
    observed = replace(sharded("gradients/v", wrong), blocks=blocks)
    oracle, noise = made.reference.oracle, made.reference.noise
    reference = replace(
        made.reference,
        oracle=(oracle[0] | {"gradients/v": wrong + 1}, oracle[1]),
        noise=(noise[0] | {"gradients/v": np.full((3, 8), 1e-16)}, noise[1]),
    )
    evidence = replace(made.evidence, steps=(step | {"gradients/v": observed}, made.evidence.steps[1]))
    logic = _of(replace(made, reference=reference, evidence=evidence), "logic")
    assert (logic.verdict, logic.first) == ("fail", "step 1: gradients/v")


def test_copies_are_asked_for_where_there_are_any() -> None:
    """Where all is divided to the last there is nothing to be equal; a copy that is owed and silent is not that."""
    made = case_run()
    only = made.evidence.steps[0]["outputs/y"]
    halves = tuple(replace(block, ranks=block.ranks[:1]) for block in only.blocks)
    alone = {"outputs/y": replace(only, blocks=halves)}
    divided = replace(made, evidence=replace(made.evidence, initial={}, steps=(alone, alone)))
    assert not any(result.check == "replicas" for result in judge(divided))
    owed = {"outputs/y": replace(only, blocks=halves, owed_by=tuple(range(8)))}
    silent = replace(made, evidence=replace(made.evidence, initial={}, steps=(owed, owed)))
    assert _of(silent, "replicas").verdict == "fail"
