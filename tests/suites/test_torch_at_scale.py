"""A plan in torch on one rank of 16 that do not exist: clean it is clean, and planted mistakes are named.

The model has three layers of real width; nothing is computed.
"""

import json
import os
import subprocess
import sys

import pytest

NAMES = ("layer-left-out", "kept-gathered", "replicated-logits", "whole-tokens")
PROGRAM = """
import json
import sys
from dataclasses import replace
from conformance.contract.mesh import Mesh
from conformance.scale.imagined import imagined
from suites.hybrid.faults.torch_at_scale import CONTROLS, PLANTED
from suites.hybrid.plans import PLANS, planned
from suites.hybrid.torch_fsdp2.budget import modules
from suites.hybrid.torch_fsdp2.production import LanguageModel

mesh = Mesh.parse("fsdp=8,tensor=2")
model = replace(PLANS[0].contract.model, layers=3, hidden=2048, num_heads=16, ffn=5632, vocabulary=32768)
plan = planned("small", "three layers", model, str(mesh), rows=8, length=2048).of("torch")

rank = int(sys.argv[1])
programs = {"clean": LanguageModel, **{planted.name: planted.program for planted in PLANTED}, **CONTROLS}

def record(program):
    return json.loads(imagined(plan, program, mesh, None, modules, rank).model_dump_json())

seen = {name: record(programs[name]) for name in sys.argv[2:] or programs}
said = {planted.name: [planted.check, planted.axis, planted.said] for planted in PLANTED}
shapes = plan.contract.shapes
print(json.dumps({"seen": seen, "said": said, "shapes": shapes, "controls": list(CONTROLS)}))
"""


def records(*arguments):
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def measured():
    return records("0")


@pytest.fixture(scope="module")
def seen(measured):
    return measured["seen"]


def test_the_plan_itself_is_clean(seen):
    clean = seen["clean"]
    assert clean["findings"] == []
    assert (clean["framework"], clean["level"], clean["rank"]) == ("torch", "program", 0)
    assert {each["level"] for each in clean["collectives"]} == {"program"}


def test_a_control_is_clean(measured):
    assert all(measured["seen"][name]["findings"] == [] for name in measured["controls"])


def test_every_rank_holds_and_sends_the_same(seen):
    last = records("15", "clean")["seen"]["clean"]
    for figure in ("held_bytes", "gradient_bytes", "collectives", "flops", "temporary_bytes"):
        assert last[figure] == seen["clean"][figure], figure


def test_bytes_of_the_state_are_exact(seen, measured):
    """Every matrix divides over all 16 devices, the scales of norms over fsdp alone; float32 throughout."""
    sizes = [(len(shape), int.__mul__(*shape) if len(shape) > 1 else shape[0]) for shape in measured["shapes"].values()]
    share = sum(size // 16 if dims > 1 else size // 8 for dims, size in sizes)
    held = seen["clean"]["held_bytes"]
    assert held["parameters"] == held["optimizer/first_moment"] == held["optimizer/second_moment"] == 4 * share
    assert seen["clean"]["gradient_bytes"] == 4 * share


def test_the_peak_holds_at_least_state_and_gradients(seen):
    clean = seen["clean"]
    assert clean["temporary_bytes"] >= clean["gradient_bytes"]
    assert clean["needed_bytes"] == clean["argument_bytes"] + clean["temporary_bytes"]


def test_products_are_those_of_the_model(seen, measured):
    """6 operations for each weight and token, 2 more for what is computed again of a layer, and attention whole."""
    tokens, shapes = 8 * 2048, measured["shapes"]
    layers = sum(int.__mul__(*s) for name, s in shapes.items() if name.startswith("layers.") and len(s) > 1)
    head = int.__mul__(*shapes["head.weight"])
    scores = 3 * 2 * 2 * tokens * 2048 * 16 * 128  # layers, products, operations
    assert sum(seen["clean"]["flops"].values()) * 16 == tokens * (8 * layers + 6 * head) + 4 * scores


def test_layers_that_stay_gathered_take_memory(seen):
    """As many bytes as are not gathered again lie there when the backward pass begins."""
    kept = seen["kept-gathered"]
    [finding] = kept["findings"]
    assert kept["kept_bytes"] - seen["clean"]["kept_bytes"] == finding["bytes"]


@pytest.mark.parametrize("name", NAMES)
def test_a_planted_mistake_is_named(measured, name):
    check, axis, said = measured["said"][name]
    findings = measured["seen"][name]["findings"]
    assert any(f["check"] == check and axis in f["axes"] and said in f["sentence"] for f in findings), findings
