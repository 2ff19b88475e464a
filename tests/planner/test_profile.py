"""Profiles: what a case sends by axis, who did what, and a trace that a viewer opens, in both frameworks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conformance.cases.resolve import resolve
from conformance.cases.selection import parse_case
from conformance.profile import tables, trace
from conformance.profile.picture import draw
from conformance.profile.record import recorded
from conformance.targets.chip import CHIPS
from conformance.workers.jobs import ProfileJob
from conformance.workers.pool import Workers

CASES = ("tensor/mlp[jax-shard_map-data2_tensor2-float64]", "tensor/mlp[torch-collectives-data2_tensor2-float64]")


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_profiled(name: str, tmp_path: Path) -> None:
    case = parse_case(name)
    target = resolve(case)
    with Workers(jax_devices=4) as workers:
        job = ProfileJob(case=case, framework=target.framework, target=target.path, repeats=2)
        outcome = workers.run(job, 120)
    assert outcome.profiled is not None, outcome.reason
    seen = outcome.profiled
    assert {each.rank for each in seen.operations} == {0, 1, 2, 3}
    assert {each.rank for each in seen.operations if each.communicates} == {0, 1, 2, 3}
    assert not any(
        each.name.startswith(("psum", "ppermute", "all")) for each in seen.operations if not each.communicates
    )
    assert min(each.start_seconds for each in seen.operations) == 0
    record = recorded(name, case.mesh, case.dtype, case.devices, CHIPS["h100"], seen)
    assert {each.axes for each in record.axes} >= {"data", "tensor"}
    assert all(each.payload_bytes > 0 and each.calls > 0 for each in record.axes)
    assert set(record.held_bytes) == {0, 1, 2, 3}
    assert any("emulated devices share the cores" in sentence for sentence in tables.words(record))
    trace.write(seen.operations, tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {event["tid"] for event in events if event["ph"] == "X"} == {0, 1, 2, 3}
    assert {event["cat"] for event in events if event["ph"] == "X"} == {"computation", "communication"}


def test_products_that_were_not_seen_are_no_share(tmp_path: Path) -> None:
    """Of a pipeline in JAX they lie in branches, and its picture has the timeline that was planned."""
    case = parse_case("pipeline/perceptron[jax-1f1b-pipeline2-float64]")
    target = resolve(case)
    with Workers(jax_devices=2) as workers:
        outcome = workers.run(ProfileJob(case=case, framework="jax", target=target.path, repeats=1), 240)
    assert outcome.profiled is not None, outcome.reason
    seen = outcome.profiled
    assert {each.communicates for each in seen.operations if each.name.startswith("ppermute")} == {True}
    assert seen.planned is not None
    assert [lane.name for lane in seen.planned.lanes] == ["rank 0", "rank 1"]
    record = recorded(case.id, case.mesh, case.dtype, case.devices, CHIPS["h100"], seen)
    assert record.share is None or any(record.flops.values())
    draw(record, seen.operations, tmp_path / "profile.svg", seen.planned)
    drawing = (tmp_path / "profile.svg").read_text(encoding="utf-8")
    assert "Planned: 1f1b, 2 ranks" in drawing
    assert "Measured: one step on emulated devices" in drawing


def test_what_the_partitioner_chose_is_known(tmp_path: Path) -> None:
    case = parse_case("tensor/mlp[jax-automatic-data2_tensor2-float64]")
    target = resolve(case)
    with Workers(jax_devices=4) as workers:
        outcome = workers.run(ProfileJob(case=case, framework="jax", target=target.path, repeats=1), 240)
    assert outcome.profiled is not None, outcome.reason
    record = recorded(case.id, case.mesh, case.dtype, case.devices, CHIPS["h100"], outcome.profiled)
    assert record.not_known == ""
    assert {each.axes for each in record.axes} >= {"data", "tensor"}
    assert record.share is not None
    assert any("The partitioner chose what is sent" in sentence for sentence in tables.words(record))
    draw(record, outcome.profiled.operations, tmp_path / "profile.svg", None)
    assert "not known" not in (tmp_path / "profile.svg").read_text(encoding="utf-8")
