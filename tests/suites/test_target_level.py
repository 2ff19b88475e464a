"""The level target: a plan compiled for a chip that is not there. Where its plugin is not installed, it is not run."""

import json
import os
import subprocess
import sys

import pytest

from conformance.targets.chip import CHIPS
from conformance.targets.devices import why_no_target

PROGRAM = """
from conformance.contract.mesh import Mesh
from conformance.scale.measured import measured
from conformance.targets.chip import CHIPS
from suites.hybrid.budget import scanned
from suites.hybrid.jax_automatic.production import LanguageModel
from suites.hybrid.plans import PLANS

print(measured(PLANS[0], LanguageModel, Mesh.parse(PLANS[0].mesh), CHIPS["h100"], scanned).model_dump_json())
"""


@pytest.fixture(scope="module")
def record():
    if why := why_no_target(CHIPS["h100"]):
        pytest.skip(f"The level target is not run: {why}.")
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_temporaries_and_fit_are_known(record):
    assert record["level"] == "target"
    assert record["not_compiled"] == ""
    assert record["temporary_bytes"] > 2**30, "activations that are kept between layers are among them"
    spilled = record["argument_bytes"] + record["output_bytes"] - record["alias_bytes"]
    assert record["needed_bytes"] == spilled + record["temporary_bytes"]
    assert record["alias_bytes"] > 0.99 * sum(record["held_bytes"][kind] for kind in ("parameters",)) * 3


def test_both_levels_are_read(record):
    """The chip's program combines operands and has lost the names of some: its collectives have no phase."""
    levels = {c["level"]: [] for c in record["collectives"]}
    assert set(levels) == {"partitioned", "target"}
    for collective in record["collectives"]:
        levels[collective["level"]].append(collective)
    assert {c["phase"] for c in levels["target"]} == {None}
    assert {c["phase"] for c in levels["partitioned"]} == {"forward", "backward"}


def test_the_chip_sends_no_more_than_was_partitioned(record):
    """By axis: combining and reassociating sums saves bytes, and adds none."""

    def sent(level, axis):
        return sum(c["wire_bytes"] for c in record["collectives"] if c["level"] == level and axis in c["axes"])

    for axis in ("fsdp", "tensor"):
        assert 0.5 * sent("partitioned", axis) < sent("target", axis) < 1.01 * sent("partitioned", axis)


def test_the_plan_is_clean_at_this_level_too(record):
    assert record["findings"] == []
    assert record["roofline"]["tokens"] == 64 * 8192
