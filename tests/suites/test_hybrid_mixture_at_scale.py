"""The mixture of the 671B class, compiled for emulated devices: the plan is clean, and experts that move are named.

All mistakes at the level of a chip are in results/scale/planted.md.
"""

import json
import math
import os
import subprocess
import sys

import pytest

from reference.architecture import places
from suites.hybrid.plans import PLANS

[PLAN] = [plan for plan in PLANS if plan.name == "671b-mixture"]
MESH, DEVICES = "data=2,fsdp=2,expert=4,tensor=2", 32  # every axis of the plan; its program is the same on all sizes
PROGRAM = """
import json, sys
from conformance.contract.mesh import Mesh
from conformance.scale.measured import measured
from suites.hybrid.at_scale import named
from suites.hybrid.budget_mixture import scanned_mixture
from suites.hybrid.faults.at_scale_mixture import PLANTED
from suites.hybrid.jax_automatic.production import MixtureLanguageModel
from suites.hybrid.plans import PLANS

[plan] = [plan for plan in PLANS if plan.name == "671b-mixture"]
[planted] = [planted for planted in PLANTED if planted.name == "buffers-left-at-home"]
mesh = Mesh.parse(sys.argv[1])
clean = measured(plan, MixtureLanguageModel, mesh, None, scanned_mixture)
wrong = measured(plan, planted.program, mesh, None, scanned_mixture)
print(json.dumps({"clean": json.loads(clean.model_dump_json()), "named": named(planted, wrong)}))
"""


@pytest.fixture(scope="module")
def said():
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, MESH], capture_output=True, text=True, env=environment, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_plan_itself_is_clean(said):
    assert said["clean"]["findings"] == []


def test_experts_that_come_to_the_tokens_are_named(said):
    assert said["named"]


def test_buffers_go_there_and_back(said):
    """In each layer twice forward, again and backward: places of all experts, for the rows and features of a device."""
    model, (rows, length) = PLAN.contract.model, PLAN.contract.batch_shapes["mask"]
    buffers = rows // (2 * 2 * 4) * model.experts * places(model, length) * model.hidden // 2
    over_experts = [each for each in said["clean"]["collectives"] if each["axes"] == ["expert"]]
    exchanged = [each for each in over_experts if each["kind"] == "all_to_all"]
    assert sum(each["payload_bytes"] for each in over_experts if each not in exchanged) < 2**20, "sums of numbers"
    assert sum(each["launches"] for each in exchanged) == 6 * model.layers
    assert sum(each["payload_bytes"] for each in exchanged) == 6 * model.layers * buffers * 2


def test_products_are_those_of_the_model(said):
    """6 operations for each weight and token, or each weight of an expert and place, and 2 for what is computed again.

    What the gates are multiplied with is computed again for their gradient; the end of a shared expert is not.
    """
    model, (rows, length) = PLAN.contract.model, PLAN.contract.batch_shapes["mask"]
    shapes = PLAN.contract.shapes
    experts = sum(math.prod(shape) for name, shape in shapes.items() if ".experts." in name)
    head = model.vocabulary * model.hidden
    others = sum(math.prod(shape) for shape in shapes.values() if len(shape) == 2) - 2 * head
    once = model.layers * model.shared_ffn * model.hidden
    attention = 2 * 2 * model.layers * rows * length**2 * model.num_heads * model.head_size
    of_tokens = rows * length * (8 * (others - once) + 6 * (once + head))
    expected = of_tokens + 8 * rows * places(model, length) * experts + 4 * attention
    assert sum(said["clean"]["flops"].values()) * DEVICES == pytest.approx(expected, rel=1e-3)
