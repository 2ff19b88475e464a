"""The tables of faults hold together: every name in them leads somewhere. `shardproof power` shows what is seen."""

from __future__ import annotations

from importlib import import_module

import pytest

from conformance.cases.fault import NO_AXIS, Fault
from conformance.cases.suite import Suite, suites
from conformance.checks import CHECKS
from conformance.contract.mesh import Mesh
from conformance.records.results import VERDICTS

ALL = [(suite, fault) for suite in suites().values() for fault in suite.faults]
EACH = pytest.mark.parametrize(("suite", "fault"), ALL, ids=[f"{suite.name}-{fault.id}" for suite, fault in ALL])


@pytest.mark.parametrize("suite", suites().values(), ids=lambda suite: suite.name)
def test_ids_are_unique_and_controls_are_there(suite: Suite):
    ids = [*(fault.id for fault in suite.faults), *suite.not_applicable]
    assert len(set(ids)) == len(ids)
    assert any(fault.control for fault in suite.faults)


@EACH
def test_every_name_leads_somewhere(suite: Suite, fault: Fault):
    assert fault.planted
    assert set(fault.seen_by) <= {check.name for check in CHECKS} | set(VERDICTS)
    for implementation in fault.planted:
        assert fault.contract in suite.implementation(implementation).classes
    for mesh in map(Mesh.parse, fault.meshes):
        assert fault.axis in (None, NO_AXIS) or mesh.size(fault.axis) > 1


@EACH
def test_an_axis_to_be_named_is_one_of_several(suite: Suite, fault: Fault):
    wide = [[axis for axis, size in Mesh.parse(mesh).sizes if size > 1] for mesh in fault.meshes]
    assert fault.axis is None or any(len(axes) > 1 for axes in wide)


@EACH
def test_mixins_stand_in_front_of_conforming_classes(suite: Suite, fault: Fault):
    for implementation, mixin in fault.planted.items():
        conforming, planted = _load(suite.implementation(implementation).classes[fault.contract]), _load(mixin)
        faulty = type("Faulty", (planted, conforming), {})
        changed = {
            name for base in planted.__mro__[:-1] for name, value in vars(base).items() if hasattr(value, "__get__")
        }
        assert any(hasattr(conforming, name) for name in changed), "the mixin overrides nothing"
        assert not getattr(faulty, "__abstractmethods__", ())


def _load(path: str) -> type:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
