"""The level target of a TPU: a small model compiled for a slice that is not there. Without libtpu it is not run."""

import json
import os
import subprocess
import sys

import pytest

from conformance.targets.chip import CHIPS
from conformance.targets.devices import why_no_target

PROGRAM = """
import sys
from dataclasses import replace

from conformance.contract.mesh import Mesh
from conformance.scale.measured import measured
from conformance.targets.chip import CHIPS
from suites.hybrid.budget import scanned
from suites.hybrid.jax_automatic.production import LanguageModel
from suites.hybrid.plans import _70B, planned

ROWS, VOCABULARY = map(int, sys.argv[1:])
MODEL = replace(_70B, hidden=512, layers=2, num_heads=8, head_size=64, ffn=1024, vocabulary=VOCABULARY)
PLAN = planned("small", "a model for a slice", MODEL, "fsdp=4,tensor=2", rows=ROWS, length=512)
print(measured(PLAN, LanguageModel, Mesh.parse(PLAN.mesh), CHIPS["v5e"], scanned).model_dump_json())
"""


def compiled(rows, vocabulary):
    if why := why_no_target(CHIPS["v5e"], 8):
        pytest.skip(f"The level target of a TPU is not run: {why}.")
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    command = [sys.executable, "-c", PROGRAM, str(rows), str(vocabulary)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def record():
    return compiled(16, 2048)


def test_temporaries_and_fit_are_known(record):
    assert (record["level"], record["not_compiled"]) == ("target", "")
    assert record["temporary_bytes"] > 2**20
    spilled = record["argument_bytes"] + record["output_bytes"] - record["alias_bytes"]
    assert record["needed_bytes"] == spilled + record["temporary_bytes"]
    held = sum(record["held_bytes"].values())
    assert 0.99 * held < record["argument_bytes"] < 1.01 * held, "what is not read is left out, the rest lies in tiles"


def test_the_chip_sends_what_was_partitioned(record):
    """By axis; a slice forms reduce-scatters of its own, as fusions."""

    def sent(level, axis):
        own = (c for c in record["collectives"] if c["level"] == level and axis in c["axes"])
        return sum(c["wire_bytes"] for c in own)

    for axis in ("fsdp", "tensor"):
        assert 0.5 * sent("partitioned", axis) < sent("target", axis) < 1.01 * sent("partitioned", axis)


def test_the_plan_is_clean(record):
    """Gradients that are handed round while they are made count as reduce-scatters."""
    assert {"permute"} <= {c["kind"] for c in record["collectives"] if c["level"] == "partitioned"}
    assert record["findings"] == []


def test_what_does_not_fit_is_refused_with_what_it_needs():
    record = compiled(8192, 32000)
    assert record["needed_bytes"] > record["capacity_bytes"]
    assert record["temporary_bytes"] == record["needed_bytes"] - sum(record["held_bytes"].values())
    assert {c["level"] for c in record["collectives"]} == {"partitioned"}
    assert "The chip's compiler refuses the program, which needs" in record["notes"][-1]
