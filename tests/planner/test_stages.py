"""Stages by formula, held against the schedules of the pipeline suite and against the whole model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from conformance.cases.plannable import Layout, Training
from conformance.contract.mesh import Mesh
from conformance.planner.asking import Asked, question
from conformance.planner.estimate import estimate
from reference.architecture import shapes
from suites.hybrid.budget_stages import chunks
from suites.pipeline.schedule import SEND, WORK, timed
from suites.pipeline.schedules import SCHEDULES
from suites.planning import stages
from suites.planning.families import DECODER
from suites.planning.footprint import footprint, sizes_of, stored_elements
from suites.planning.shapes import sized

GRID = [(schedule, ranks, slices) for schedule in stages.SCHEDULES for ranks, slices in ((2, 4), (4, 8), (4, 16))]


def _training(rows: int = 96) -> Training:
    return Training(family="decoder", model=sized(1_300_000_000).model, rows=rows, length=128)


def _layout(schedule: str, ranks: int, slices: int, others: str = "") -> Layout:
    mesh = Mesh.parse(f"pipeline={ranks}{others}")
    return Layout(mesh=mesh, microbatches=slices, recompute="layer", schedule=schedule)


@pytest.mark.parametrize(("schedule", "ranks", "slices"), GRID)
def test_messages_are_those_of_the_schedule(schedule: str, ranks: int, slices: int) -> None:
    lanes = timed(SCHEDULES[schedule](ranks, slices)).lanes
    busiest = max(sum(event.kind == SEND and event.peer != rank for event in lanes[rank]) for rank in range(ranks))
    budget = DECODER.budget(_training(), _layout(schedule, ranks, slices))
    [message] = [each for each in budget if (each.kind, each.axes) == ("permute", ("pipeline",))]
    assert message.calls == busiest
    assert message.elements == 96 // slices * 128 * _training().model.hidden


@pytest.mark.parametrize(("schedule", "ranks", "slices"), GRID)
def test_the_time_that_is_waited_is_that_of_the_schedule(schedule: str, ranks: int, slices: int) -> None:
    simulated = timed(SCHEDULES[schedule](ranks, slices)).bubble()
    wanted = question(Asked(model="1.3B", devices=ranks, rows=96, length=128))
    layout = _layout(schedule, ranks, slices)
    each = estimate(wanted, layout, footprint(wanted.training, layout))
    assert each.footprint.bubble == pytest.approx(simulated)
    assert each.step_seconds == pytest.approx(each.busy_seconds + each.bubble_seconds)


@pytest.mark.parametrize(("schedule", "ranks", "slices"), GRID)
def test_as_many_microbatches_live_as_the_schedule_keeps(schedule: str, ranks: int, slices: int) -> None:
    """On the first rank, counted in layers of one rank."""
    held, most = 0, 0
    for event in timed(SCHEDULES[schedule](ranks, slices)).lanes[0]:
        if event.kind in WORK:
            held += 1 if event.kind == "forward" else -1
            most = max(most, held)
    layout = _layout(schedule, ranks, slices)
    assert sizes_of(_training(), layout)[0].live == most / chunks(layout.schedule)


def test_the_two_ends_are_the_whole_model() -> None:
    model = _training().model
    first, last = (stored_elements(sizes) for sizes in sizes_of(_training(), _layout("1f1b", 2, 8)))
    assert model.layers % 2 == 0
    assert first + last == sum(math.prod(shape) for shape in shapes(model).values())
    assert first != last


def test_more_ranks_hold_less_and_wait_longer() -> None:
    two, four = (footprint(_training(), _layout("1f1b", ranks, 8)) for ranks in (2, 4))
    assert four.parameter_bytes < two.parameter_bytes
    assert sum(four.flops.values()) < sum(two.flops.values())
    assert four.bubble > two.bubble


def test_1f1b_keeps_less_than_gpipe_and_interleaved_waits_less() -> None:
    footprints = {name: footprint(_training(), _layout(name, 4, 16)) for name in stages.SCHEDULES}
    assert footprints["1f1b"].temporary_bytes < footprints["gpipe"].temporary_bytes
    assert footprints["interleaved"].bubble < footprints["1f1b"].bubble
    assert footprints["1f1b"].temporary_bytes < footprints["interleaved"].temporary_bytes


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        (_layout("1f1b", 4, 1), "one microbatch"),
        (_layout("interleaved", 4, 6), "in rounds"),
        (_layout("1f1b", 32, 8), "fewer than the stages"),
        (_layout("1f1b", 4, 8, ",data=5"), "96 rows do not divide"),
    ],
)
def test_stages_that_cannot_be(layout: Layout, why: str) -> None:
    assert why in DECODER.refused(_training(), layout)


def test_what_is_known_by_formula_alone_says_so() -> None:
    assert "several stages" in DECODER.uncompiled(_training(), _layout("interleaved", 4, 8))
    assert "each of them again" in DECODER.uncompiled(_training(), replace(_layout("1f1b", 4, 8), recompute="none"))
    assert not DECODER.uncompiled(_training(), _layout("1f1b", 4, 8))
    assert not DECODER.uncompiled(_training(), Layout(mesh=Mesh.parse("fsdp=4")))
