"""Plans of production size, compiled for emulated devices: the plan itself is clean, planted mistakes are named.

All mistakes at the level of a chip are in results/scale/planted.md; here are those whose findings differ in kind.
"""

import json
import os
import subprocess
import sys

import pytest

from conformance.scale.narrowed import narrowed
from conformance.scale.record import ScaleRecord
from suites.hybrid.plans import PLANS

NAMES = ("whole-moments", "gathered-head", "whole-tokens", "last-layer-apart")
PROGRAM = """
import json, sys
from conformance.contract.mesh import Mesh
from conformance.scale.measured import measured
from suites.hybrid.at_scale import named
from suites.hybrid.budget import scanned
from suites.hybrid.faults.at_scale import PLANTED
from suites.hybrid.jax_automatic.production import LanguageModel
from suites.hybrid.plans import PLANS

plan, mesh = PLANS[0], Mesh.parse(PLANS[0].mesh)
clean = measured(plan, LanguageModel, mesh, None, scanned)
said = {planted.name: named(planted, measured(plan, planted.program, mesh, None, scanned))
        for planted in PLANTED if planted.name in sys.argv[1:]}
print(json.dumps({"clean": json.loads(clean.model_dump_json()), "named": said}))
"""


@pytest.fixture(scope="module")
def said():
    flags = "--xla_force_host_platform_device_count=128"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *NAMES], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_plan_itself_is_clean(said):
    clean = said["clean"]
    assert clean["findings"] == []
    assert clean["level"] == "partitioned"
    assert clean["temporary_bytes"] is None, "the CPU's temporaries are no chip's"
    assert "no chip was named" in clean["not_compiled"]


def test_sums_in_fewer_bits_than_the_recipe_are_declared(said):
    """The plan says bfloat16; of a plan that says nothing, every matrix would be a finding, and no vector."""
    record = ScaleRecord.model_validate(said["clean"])
    assert PLANS[0].recipe_reduction == "float32"
    assert any("summed over devices in bfloat16" in note for note in record.notes)
    findings = narrowed(record.collectives, PLANS[0].recipe_reduction)
    weights = {name for name in PLANS[0].contract.shapes if name.endswith(".weight") and "layers" not in name}
    assert weights <= {finding.tensor for finding in findings}
    assert all(finding.check == "precision" and "bfloat16" in finding.sentence for finding in findings)
    assert not any(finding.tensor.endswith(".scale") for finding in findings)
    assert not narrowed(record.collectives, "bfloat16")


def test_bytes_of_the_state_are_exact(said):
    """Every parameter of this plan divides over all 128 devices, but for the scales of norms over tensor."""
    model = PLANS[0].contract
    scales = sum(shape[0] for shape in model.shapes.values() if len(shape) == 1)
    matrices = said["clean"]["parameters"] - scales
    held = said["clean"]["held_bytes"]
    assert held["parameters"] == 4 * (matrices // 128 + scales // 16)
    assert held["optimizer/first_moment"] == held["optimizer/second_moment"] == held["parameters"]


def test_products_are_those_of_the_model(said):
    """6 operations for each weight and token, 2 more for what is computed again of a layer, and attention.

    The last product of a layer is not computed again: nothing in its backward pass needs the result.
    """
    model, tokens = PLANS[0].contract.model, 64 * 8192
    weights = said["clean"]["parameters"] - model.vocabulary * model.hidden  # a lookup is no product
    head = model.vocabulary * model.hidden
    attention = 2 * 2 * model.layers * tokens * 8192 * model.num_heads * model.head_size  # scores and mixed values
    last = model.layers * model.ffn * model.hidden
    expected = tokens * (8 * (weights - head - last) + 6 * (head + last)) + 4 * attention
    assert sum(said["clean"]["flops"].values()) * 128 == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_mistake_is_named(said, name):
    assert said["named"][name]
