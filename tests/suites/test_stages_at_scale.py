"""Stages with programs of their own: together they are the whole step, and each sends what its budget says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from suites.hybrid.budget_stages import distinct, parts

DEVICES = 8
VALUES = """
import json
import jax
import numpy as np
jax.config.update("jax_enable_x64", True)
from conformance.contract.mesh import Mesh
from conformance.targets.devices import host_mesh
from suites.hybrid.contracts import CONTRACTS
from suites.hybrid.jax_automatic import pipelined, stacked

def trained(program, name, mesh):
    [contract] = [each for each in CONTRACTS if each.name == name]
    made = program(contract, Mesh.parse(mesh), "float64")
    state = made.place(contract.parameters(0), host_mesh(Mesh.parse(mesh)))
    for batch in contract.batches(0, 2):
        state, observed = made.step(state, batch)
    every = {**observed, **made.collect(state)}
    return {name: np.asarray(getattr(value, "value", value)) for name, value in every.items()}

whole = trained(stacked.LanguageModel, "hybrid/scanned_slices", "fsdp=2,tensor=2")
told = {}
for program in (pipelined.LanguageModel, pipelined.GPipe):
    for mesh in ("pipeline=2,fsdp=2,tensor=2", "pipeline=3,data=2"):
        staged = trained(program, "hybrid/scanned_stages", mesh)
        far = {name: float(np.max(np.abs(whole[name] - value))) for name, value in staged.items() if name in whole}
        wanted = [name for name in whole if name.startswith(("gradients/", "parameters/"))]
        missing = sorted(set(wanted) - set(staged))
        told[f"{program.__name__} {mesh}"] = {"far": max(far.values()), "compared": len(far), "missing": missing}
print(json.dumps(told))
"""
COMPILED = """
import json
from dataclasses import replace
from conformance.cases.plannable import Layout, Training
from conformance.contract.mesh import Mesh
from conformance.scale.measured import measured
from conformance.workers.lookup import load
from suites.planning.footprint import footprint, sizes_of, stored_elements
from suites.planning.plans import scale_plan
from suites.planning.shapes import sized

model = replace(sized(1_300_000_000).model, layers=6)
training = Training(family="decoder", model=model, rows=32, length=2048)
layout = Layout(mesh=Mesh.parse("pipeline=4,fsdp=2,tensor=4"), microbatches=8, recompute="layer", schedule="1f1b")
plan = scale_plan("staged", training, layout)
record = measured(plan, load(plan.program), layout.mesh, None, load(plan.budget))
predicted = footprint(training, layout)
elements = [stored_elements(sizes) for sizes in sizes_of(training, layout)]
print(json.dumps({
    "record": json.loads(record.model_dump_json()), "elements": elements, "flops": dict(predicted.flops),
}))
"""


def _run(program: str) -> Any:
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def compiled() -> Any:
    return _run(COMPILED)


def test_stages_together_are_the_whole_step() -> None:
    for told in _run(VALUES).values():
        assert told["missing"] == []
        assert told["compared"] > 50
        assert told["far"] < 1e-12


@pytest.mark.parametrize(("layers", "ranks"), [(6, 4), (8, 2), (5, 5), (80, 7)])
def test_parts_are_all_layers_once(layers: int, ranks: int) -> None:
    every = parts(layers, ranks)
    assert [place for part in every for place in range(part.start, part.start + part.layers)] == list(range(layers))
    assert max(part.layers for part in every) - min(part.layers for part in every) <= 1
    assert sum(number for _, number in distinct(layers, ranks)) == ranks


def test_every_distinct_rank_is_compiled_and_keeps_to_its_budget(compiled: Any) -> None:
    record = compiled["record"]
    assert [(each["rank"], each["ranks"], each["layers"]) for each in record["stages"]] == [
        (0, 1, 2),
        (1, 2, 2),
        (3, 1, 1),
    ]
    assert record["findings"] == []
    assert (record["mesh"], record["devices"]) == ("pipeline=4,fsdp=2,tensor=4", 32)


def test_bytes_of_the_state_are_exact_and_operations_are_those_of_the_busiest(compiled: Any) -> None:
    stages = compiled["record"]["stages"]
    for stage, elements in zip((stages[0], stages[-1]), compiled["elements"], strict=True):
        assert (stage["parameter_bytes"], stage["optimizer_bytes"]) == (4 * elements, 8 * elements)
    flops = [each["flops"]["bfloat16"] for each in stages]
    assert max(flops) == pytest.approx(compiled["flops"]["bfloat16"])


def test_messages_are_those_of_the_schedule(compiled: Any) -> None:
    """Activations up and gradients down for each of 8 microbatches, of 2 rows over fsdp and features over tensor."""
    record = compiled["record"]
    assert [each["messages"] for each in record["stages"]] == [8, 16, 8]
    [message] = [each for each in record["collectives"] if each["axes"] == ["pipeline"]]
    tokens = 32 * 2048 // 8 // 2
    assert message["payload_bytes"] == 8 * 2 * tokens * 2048 // 4
    assert message["launches"] == 8
