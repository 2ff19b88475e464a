"""Plans whose axes coincide in size, whose devices are no power of two, whose parameters are narrow: nothing is found.

Compiled for emulated devices. Each row was once found guilty: of what the partitioner does where two axes have the same
size, of features gathered for a lookup's gradient, of a gradient that no tensor was known for, of activations that two
products gather each for itself.
"""

import json
import os
import subprocess
import sys

import pytest

from suites.planning.measure.plans import Measured

DEVICES = 16
CLEAN = {
    "axes of one size": Measured(size="760M", mesh="fsdp=2,sequence=2,tensor=2", rows=16, length=1024),
    "four axes of one size": Measured(
        size="760M", mesh="data=2,fsdp=2,sequence=2,tensor=2", rows=16, length=1024, parameters="bfloat16"
    ),
    "six devices": Measured(size="760M", mesh="fsdp=6,tensor=2", rows=48, length=256, microbatches=2),
    "narrow parameters": Measured(
        size="760M", mesh="fsdp=4", rows=16, length=256, microbatches=2, parameters="bfloat16"
    ),
    "one row at a time": Measured(size="760M", mesh="tensor=4", rows=4, length=512, microbatches=4),
    "one row at a time, nothing recomputed": Measured(
        size="760M", mesh="tensor=4", rows=4, length=512, microbatches=4, recompute="none"
    ),
    "one row at a time in stages": Measured(
        size="760M", mesh="pipeline=2,tensor=4", rows=4, length=512, microbatches=4, schedule="1f1b"
    ),
    "narrow experts": Measured(
        size="8x7B", mesh="fsdp=2,expert=2,tensor=2", rows=16, length=256, parameters="bfloat16"
    ),
}
PROGRAM = """
import json, sys
from conformance.scale.measured import measured
from conformance.workers.lookup import load
from suites.planning.plans import scale_plan
from tests.suites.test_clean_plans import CLEAN

def found(row):
    plan = scale_plan("clean", row.training, row.layout)
    return measured(plan, load(plan.program), row.layout.mesh, None, load(plan.budget)).findings

print(json.dumps({name: [finding.sentence for finding in found(row)] for name, row in CLEAN.items()}))
"""


@pytest.fixture(scope="module")
def said():
    flags = f"--xla_force_host_platform_device_count={DEVICES}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", CLEAN)
def test_nothing_is_found(said, name):
    assert said[name] == []
