"""The record of a pipeline: memory of the rank that needs most, and what is sent of the rank that sends most."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.contract.mesh import Mesh
from conformance.report.scale_tables import verdict_lines
from conformance.scale.program import StageProgram
from conformance.scale.record import Collective, ScaleRecord
from conformance.scale.staged import of_stages

INNER = Mesh.parse("tensor=2")
PROGRAM: Any = None


def _record(needed: int, sent: int, launches: int) -> ScaleRecord:
    collective = Collective(
        level="target", phase=None, kind="all_reduce", axes=("tensor",), dtype="float32", tensor="", where="",
        launches=launches, payload_bytes=sent, wire_bytes=sent, whole=True,
    )  # fmt: skip
    return ScaleRecord(
        plan="p", summary="", mesh=str(INNER), devices=2, chip="h100", parameters=1, level="target", not_compiled="",
        held_bytes={"parameters": 1}, argument_bytes=1, output_bytes=0, alias_bytes=0, temporary_bytes=needed - 1,
        needed_bytes=needed, capacity_bytes=100, margin=0.1, largest=(), flops={}, roofline=None, findings=(),
        collectives=(collective, collective.model_copy(update={"level": "partitioned"})), proof="", proof_verdict="",
        cpu_seconds=0.0, peak_rss_bytes=0,
    )  # fmt: skip


def _stage(rank: int, messages: int) -> StageProgram:
    return StageProgram(
        rank=rank, ranks=1, layers=1, mesh=INNER, program=PROGRAM, budget=(), messages=messages, message_elements=4,
        message_dtype="bfloat16",
    )  # fmt: skip


@pytest.fixture
def record() -> ScaleRecord:
    """The first rank needs most, the middle one has most messages, the last one sends most."""
    stages = [
        (_stage(0, 2), _record(50, 100, 4)),
        (_stage(1, 4), _record(40, 100, 4)),
        (_stage(2, 2), _record(30, 600, 2)),
    ]
    return of_stages(stages, Mesh.parse("pipeline=3,tensor=2"), None)


def test_each_figure_is_that_of_its_rank(record: ScaleRecord) -> None:
    assert record.needed_bytes == 50
    assert record.wire_bytes() == {"tensor": 600, "pipeline": 2 * 8}
    assert record.largest_all_reduce == 300


def test_it_says_whose_they_are(record: ScaleRecord) -> None:
    [line] = [line for line in verdict_lines(record) if line.startswith("Memory is that")]
    assert line.startswith("Memory is that of the rank that needs most, what is sent that of rank 2, which sends most")
