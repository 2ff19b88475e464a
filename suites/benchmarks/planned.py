"""Compiles a plan by the runner of `shardproof scale`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from conformance.cases.plans import plan_named
from conformance.contract.mesh import Mesh
from conformance.runner.scale import scaled
from conformance.targets.chip import CHIPS

from .kept import Figures, NotMeasured
from .measured import named
from .series import MEMORY, SEVERAL

CHIP = "h100"


def figures(name: str) -> Figures:
    """NotMeasured where there is a finding: the program small fails, or the plan exceeds its budget."""
    plan = plan_named(name).of("jax")
    mesh = Mesh.parse(plan.mesh)
    with tempfile.TemporaryDirectory() as folder:
        record = scaled(name, plan, mesh, CHIPS[CHIP], "jax", Path(folder), print)
    if record.findings:
        raise NotMeasured(f"{name}: {record.findings[0].sentence}")
    made = {"cpu_seconds": record.cpu_seconds, "peak_rss_bytes": float(record.peak_rss_bytes)}
    made[f"partitioned/{MEMORY}"] = float(record.argument_bytes + record.output_bytes - record.alias_bytes)
    for level in ("partitioned", record.level):
        made |= {f"{level}/{axis}": 0.0 for axis in (*mesh.axes, SEVERAL)}
    if record.needed_bytes is not None:
        made[f"target/{MEMORY}"] = float(record.needed_bytes)
    for collective in record.collectives:
        made[f"{collective.level}/{named(collective.axes)}"] += collective.wire_bytes
    return made
