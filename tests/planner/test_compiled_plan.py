"""A prediction beside the program that it is of, through the door that `shardproof plan` uses."""

from __future__ import annotations

import pytest

from conformance.cases.plannable import Layout
from conformance.contract.mesh import Mesh
from conformance.planner.asking import Asked, question
from conformance.planner.estimate import estimate
from conformance.planner.evidence import compile_layout

LAYOUTS = (
    ("55M", "data=2,fsdp=3,tensor=2", 2, ""),  # fsdp divides few shapes
    ("55M", "data=2,fsdp=2,sequence=2", 1, ""),
    ("55M", "fsdp=1", 2, ""),  # a program that no partitioner sees
    ("760M", "pipeline=2", 4, "1f1b"),  # each of whose ranks is one device
    ("8x7B", "fsdp=3,expert=2,tensor=2", 1, ""),
)


@pytest.mark.parametrize(("model", "mesh", "microbatches", "schedule"), LAYOUTS)
def test_bytes_of_the_state_are_exact(model: str, mesh: str, microbatches: int, schedule: str) -> None:
    layout = Layout(mesh=Mesh.parse(mesh), microbatches=microbatches, recompute="layer", schedule=schedule)
    wanted = question(Asked(model=model, devices=layout.mesh.devices, rows=24, length=32))
    footprint = wanted.family.footprint(wanted.training, layout)
    assert not wanted.family.refused(wanted.training, layout)
    tried = compile_layout(wanted, estimate(wanted, layout, footprint))
    assert tried.evidence.parameter_bytes == footprint.parameter_bytes
    assert tried.evidence.optimizer_bytes == footprint.optimizer_bytes
    router = 1e-3 if wanted.training.model.experts else 1e-9  # of few columns: a product for the tokens of all ranks
    assert tried.evidence.compute_seconds == pytest.approx(tried.estimate.compute_seconds, rel=router)
    assert tried.holds
