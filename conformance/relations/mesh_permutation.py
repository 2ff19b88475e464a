"""Mesh permutation: a mesh laid over the devices in another order computes the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import ORDERS, Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun
from conformance.relations.oracle import first_step_holds
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs


class MeshPermutation(Relation):
    """Which device sits at which rank is nobody's business: no rank may count on its neighbour's number."""

    name = "mesh permutation"
    relation = (
        "The first step on the same mesh over devices in every other order (canonical, reversed, shuffled) is the "
        "oracle's within the bounds of the case, and copies agree bit for bit."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        meshes = other_orders(runs.mesh)
        if not meshes:
            raise Unsupported(f"{runs.mesh.devices} device has only one order.")
        for mesh in meshes:
            yield runs.extra_run(f"{mesh.order} devices", partial(runs.first_step, mesh=mesh), mesh)

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        for extra_run in extra_runs:
            yield from first_step_holds(case_run, extra_run)


def other_orders(mesh: Mesh) -> list[Mesh]:
    """The same sizes over devices in other orders, each order once."""
    orders = {mesh.device_order: mesh}
    for order in ORDERS:
        other = replace(mesh, order=order)
        orders.setdefault(other.device_order, other)
    return list(orders.values())[1:]
