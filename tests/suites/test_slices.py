"""No standing case has as many slices as an axis has devices: a factor of one would pass for one of the other."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import pytest

from conformance.cases.suite import PROFILES, Suite, suites
from conformance.contract.mesh import Mesh

ROW_AXES = ("data", "fsdp", "expert")


@pytest.mark.parametrize("suite", suites().values(), ids=lambda suite: suite.name)
def test_slices_are_told_from_devices(suite: Suite):
    for where, contract, mesh in _meshes(suite):
        slices = suite.contract(contract).recipe.accumulation
        rows = prod(size for axis, size in mesh.sizes if axis in ROW_AXES)
        assert slices == 1 or slices not in (rows, *mesh.shape), f"{where}: {contract} on {mesh}, {slices} slices"


def _meshes(suite: Suite) -> Iterator[tuple[str, str, Mesh]]:
    for profile in PROFILES:
        yield from ((profile, case.contract, case.mesh) for case in suite.cases(profile))
    for fault in suite.faults:
        yield from ((fault.id, fault.contract, Mesh.parse(mesh)) for mesh in fault.meshes)
    for row in suite.mutated:
        yield from (("mutated", case.contract, case.mesh) for case in row.cases())


def test_most_suites_accumulate():
    """What divides nothing cannot collide: those with rows to divide have contracts of several slices."""
    assert {suite.name for suite in suites().values() if any(c.recipe.accumulation > 1 for c in suite.contracts)} >= {
        "data",
        "tensor",
        "sequence",
        "pipeline",
        "moe",
    }
