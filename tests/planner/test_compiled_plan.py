"""A prediction beside the program that it is of, through the door that `shardproof plan` uses."""

from __future__ import annotations

import pytest

from conformance.cases.plannable import Layout
from conformance.contract.mesh import Mesh
from conformance.planner.asking import Asked, question
from conformance.planner.estimate import estimate
from conformance.planner.evidence import compile_layout

LAYOUTS = (
    Layout(mesh=Mesh.parse("data=2,fsdp=3,tensor=2"), microbatches=2, recompute="layer"),  # fsdp divides few shapes
)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_bytes_of_the_state_are_exact(layout: Layout) -> None:
    wanted = question(Asked(model="55M", devices=layout.mesh.devices, rows=24, length=32))
    footprint = wanted.family.footprint(wanted.training, layout)
    assert not wanted.family.refused(wanted.training, layout)
    tried = compile_layout(wanted, estimate(wanted, layout, footprint))
    assert tried.evidence.parameter_bytes == footprint.parameter_bytes
    assert tried.evidence.optimizer_bytes == footprint.optimizer_bytes
    assert tried.holds
