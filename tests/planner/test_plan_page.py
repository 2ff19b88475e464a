"""The page of a plan: what a reader decides by is on it, and its pictures say what the plan says."""

from __future__ import annotations

import math
import re
from itertools import combinations
from pathlib import Path

import pytest

from conformance.cases.plan_file import Evidence, PlanFile
from conformance.cases.plannable import GRADIENTS, SAVED, Layout
from conformance.contract.mesh import Mesh
from conformance.planner.asking import Asked, question
from conformance.planner.estimate import estimate
from conformance.planner.evidence import plan_file
from conformance.report import panels
from conformance.report.plan_page import write_plan
from conformance.report.plan_pictures import moments, sent


def _plan(mesh: str = "data=2,fsdp=2,tensor=2", microbatches: int = 2, off: float = 1.25) -> PlanFile:
    wanted = question(Asked(model="1.3B", devices=8, memory="80GiB", rows=64))
    layout = Layout(mesh=Mesh.parse(mesh), microbatches=microbatches, recompute="layer")
    each = estimate(wanted, layout, wanted.family.footprint(wanted.training, layout))
    predicted = each.footprint
    temporaries = round(off * predicted.temporary_bytes)
    evidence = Evidence(
        level="target", parameter_bytes=predicted.parameter_bytes, optimizer_bytes=predicted.optimizer_bytes,
        temporary_bytes=temporaries, needed_bytes=predicted.held_bytes + temporaries, fits=True, compute_seconds=1.0,
        communication_seconds={}, communication_bytes={"tensor": 7 * 2**40}, largest_all_reduce=0,
        findings=("too much of <this>",),
    )  # fmt: skip
    return plan_file(wanted, each, evidence, ("because it is <fast>",))


def test_what_a_reader_decides_by(tmp_path: Path) -> None:
    plan = _plan()
    page = write_plan(plan, tmp_path / "mine.json")
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "mine.html"
    assert "1.3B fits on 8 devices" in text
    assert "tokens a second, by the cost model" in text
    assert "tensor = 2, within a node" in text
    assert "because it is &lt;fast&gt;" in text
    assert "Beyond its budget: too much of &lt;this&gt;" in text
    assert "shardproof plan --apply mine.json" in text
    assert plan.proof in text
    assert text.count("<svg") == 3
    assert not re.search(r"(src|href)=\"https?:", text)


def test_without_evidence_it_is_a_prediction(tmp_path: Path) -> None:
    plan = _plan().model_copy(update={"evidence": None})
    text = write_plan(plan, tmp_path / "mine.json").read_text(encoding="utf-8")
    assert "is expected to fit" in text
    assert "every figure is a prediction" in text


def test_bytes_are_those_that_were_compiled() -> None:
    """What goes beyond a budget is not drawn as if the budget held it."""
    plan = _plan()
    assert sent(plan) == ({"tensor": 7 * 2**40}, "GiB that a device sends in a step, as compiled")
    alone = plan.model_copy(update={"evidence": None})
    assert sent(alone) == (plan.predicted.communication_bytes, "GiB that a device sends in a step, by its budget")


@pytest.mark.parametrize("microbatches", [1, 2, 8])
def test_memory_rises_to_what_was_compiled(microbatches: int) -> None:
    plan = _plan(microbatches=microbatches)
    points = moments(plan)
    assert plan.evidence is not None
    assert plan.evidence.needed_bytes is not None
    assert [point.at for point in points] == sorted(point.at for point in points)
    assert max(sum(point.held.values()) for point in points) == pytest.approx(plan.evidence.needed_bytes, rel=1e-6)
    assert points[0].held[GRADIENTS] == 0
    assert points[-1].held[SAVED] == 0


@pytest.mark.parametrize("many", [3, 8, 16, panels.MOST_DRAWN])
def test_who_sends_to_whom_is_seen_beside_the_ranks_between(many: int) -> None:
    """No curve passes behind a rank that it does not join: half of what lies between neighbours is free."""
    places = [(math.cos(2 * math.pi * i / many), math.sin(2 * math.pi * i / many)) for i in range(many)]
    free = math.dist(places[0], places[1]) / 2
    for start, end in combinations(range(many), 2):
        curve = list(zip(*panels.chord(places[start], places[end]), strict=True))
        others = [place for rank, place in enumerate(places) if rank not in (start, end)]
        assert min(math.dist(point, place) for point in curve for place in others) > free
