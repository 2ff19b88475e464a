"""The table of faults holds together: every name in it leads somewhere. `shardproof power` shows what is seen."""

from __future__ import annotations

from importlib import import_module

import pytest

from conformance.checks import CHECKS
from conformance.faults import Fault
from conformance.mesh import Mesh
from suites.tensor.faults.table import ABSENT, FAULTS
from suites.tensor.suite import SUITE


def test_ids_are_unique():
    ids = [fault.id for fault in FAULTS] + [one for one, _ in ABSENT]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_every_name_leads_somewhere(fault: Fault):
    assert fault.planted
    assert set(fault.seen_by) <= {check.name for check in CHECKS}
    for implementation in fault.planted:
        assert fault.contract in SUITE.implementation(implementation).classes
    for mesh in map(Mesh.parse, fault.meshes):
        assert fault.axis is None or mesh.size(fault.axis) > 1


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_mixins_stand_in_front_of_conforming_classes(fault: Fault):
    for implementation, mixin in fault.planted.items():
        conforming, planted = _load(SUITE.implementation(implementation).classes[fault.contract]), _load(mixin)
        faulty = type("Faulty", (planted, conforming), {})
        changed = {name for one in planted.__mro__[:-1] for name, value in vars(one).items() if callable(value)}
        assert any(hasattr(conforming, name) for name in changed), "the mixin overrides nothing"
        assert not getattr(faulty, "__abstractmethods__", ())


def test_every_fault_is_met_on_two_axes():
    one_axis = {fault.id for fault in FAULTS if all(len(Mesh.parse(mesh).axes) < 2 for mesh in fault.meshes)}
    assert not one_axis


def _load(path: str) -> type:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
