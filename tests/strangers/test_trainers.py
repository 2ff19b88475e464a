"""Modules, trees, optimizers and trainers of many kinds: right ones pass, planted faults fail with the right words."""

from __future__ import annotations

from functools import cache

import pytest

from tests.strangers.answers import KINDS, NONE, answers

TORCH = [  # kind, verdict, what it says
    ("module", "pass", "replicas: pass"),
    ("module in bfloat16", "pass", "numerics: pass"),
    ("module with a fault", "fail", "step 1: outputs/y"),
    ("module that a function makes", "pass", ""),
    ("module with a hook", "refused", "hand over a function at the top level of a module that makes it"),
    ("trainer", "pass", "trajectory: pass"),
    ("trainer in bfloat16", "pass", "trajectory: pass"),
    ("clips unseen", "error", "its step returns 'gradients' too, copied before"),
    ("clips itself", "pass", ""),
    ("clips by its own norm", "fail", "step 1: metrics/grad_norm"),
    ("clips by its own norm in bfloat16", "fail", "step 1: metrics/grad_norm"),
    ("accumulates", "pass", ""),
    ("accumulates in bfloat16", "pass", ""),
    ("accumulates sums", "fail", "step 1: gradients/down.bias"),
    ("keeps gradients", "fail", "step 2: gradients/down.bias"),
    ("groups", "pass", ""),
    ("one group", "fail", "step 1: updates/"),
    ("optimizer made early", "error", "that is no parameter of the model: it was made for another model, or before"),
    ("average", "pass", ""),
    ("average in bfloat16", "pass", ""),
    ("average too early", "fail", "step 1: ema/"),
    ("average too early", "fail", "parts from what the reference has: add at strangers/kinds/fsdp_torch.py"),
    ("tied", "pass", ""),
    ("tied in bfloat16", "pass", ""),
    ("untied", "fail", "'gradients/head.weight' is not in the contract"),
    ("untied", "fail", "step 1: gradients/embed.weight"),
    ("frozen", "pass", ""),
    ("thawed", "fail", "step 1: updates/frozen"),
    ("thawed", "fail", "'gradients/frozen' is not in the contract"),
    ("buffers", "pass", ""),
    ("buffers in float32", "pass", ""),
    ("buffers thrown away", "fail", "step 1: buffers/norm.running_mean"),
    ("buffers of own rows", "fail", "on axis data"),
    ("buffers of own rows", "fail", "buffers/norm.running_mean differs between rank 0 and rank 1"),
    ("dropout in training", "error", "draws random numbers, as dropout does in training: put the module in eval mode"),
    ("tree", "pass", ""),
    ("tree in bfloat16", "pass", ""),
    ("tree with a fault", "fail", "step 1: gradients/layers.1.b is off"),
    ("tree with a fault", "fail", "summed twice: size-of-axis times too large on axis data"),
    ("forward only", "pass", ""),
    ("forward only in bfloat16", "pass", ""),
    ("forward only with a fault", "fail", "elements permuted along dim 0"),
    ("no parameters", "pass", ""),
    ("no parameters with a fault", "fail", "on axis sequence"),
    ("class as reference", "pass", ""),
    ("class as reference, with a fault", "fail", "step 1: updates/frozen"),
    ("megatron", "pass", ""),
    ("megatron in bfloat16", "pass", ""),
    ("silent", "error", "say how it lies, as a DTensor, by Megatron's attributes, or with declare="),
    ("silent with a layout", "pass", ""),
    ("declared", "pass", "communication: pass"),
    ("declared in float32", "pass", "communication: pass"),
    ("declares nothing", "fail", "declared 0 calls of 0 bytes, traced 1 calls"),
    ("sleeps", "hang", "No answer within 10 seconds"),
]
JAX = [
    ("tree", "pass", ""),
    ("tree in bfloat16", "pass", ""),
    ("tree with a fault", "fail", "summed twice: size-of-axis times too large on axis data"),
    ("trainer", "pass", "trajectory: pass"),
    ("trainer in bfloat16", "pass", "trajectory: pass"),
    ("sums", "fail", "step 1: gradients/"),
    ("clips by its own norm", "fail", "step 1: metrics/grad_norm"),
    ("accumulates", "pass", ""),
    ("accumulates in bfloat16", "pass", ""),
    ("accumulates sums", "fail", "step 1: gradients/"),
    ("average", "pass", ""),
    ("average in bfloat16", "pass", ""),
    ("average too early", "fail", "step 1: ema/"),
    ("optimizer begins anew", "fail", "right in step 1, wrong afterwards: stale or lost state"),
    ("module", "pass", ""),
    ("module in bfloat16", "pass", ""),
    ("module with a fault", "fail", "step 1: gradients/layers.0.bias"),
    ("nnx trainer", "pass", "trajectory: pass"),
    ("nnx trainer in bfloat16", "pass", "trajectory: pass"),
    ("tied", "pass", ""),
    ("untied", "fail", "'gradients/head' is not in the contract"),
    ("untied", "fail", "step 1: gradients/embed"),
    ("buffers", "pass", ""),
    ("buffers of own rows", "fail", "on axis data"),
    ("dropout in training", "pass", ""),
    ("frozen", "pass", ""),
    ("thawed", "fail", "step 1: updates/layers.0."),
    ("forward only", "pass", ""),
    ("forward only in bfloat16", "pass", ""),
    ("forward only with a fault", "fail", "elements permuted along dim 0"),
    ("no parameters", "pass", ""),
    ("no parameters with a fault", "fail", "on axis sequence"),
    ("class as reference", "pass", ""),
    ("class as reference, with a fault", "fail", "step 1: updates/"),
    ("declared", "pass", "communication: pass"),
    ("declares nothing", "fail", "declared 0 calls of 0 bytes"),
]
EXPECTED = [("torch", *case) for case in TORCH] + [("jax", *case) for case in JAX]


@cache
def judged(framework: str) -> dict[str, dict]:
    """All kinds of a framework in one process, whose workers they share."""
    kinds = [kind for expected, kind, _, _ in EXPECTED if expected == framework]
    return answers(f"trainers_{framework}.py", kinds, timeout=1500)


@pytest.mark.parametrize(("framework", "kind", "verdict", "says"), EXPECTED)
def test_a_kind_of_trainer_is_judged_as_it_deserves(framework: str, kind: str, verdict: str, says: str) -> None:
    answer = judged(framework).get(kind, NONE)
    assert answer["verdict"] == verdict, answer["text"]
    assert says in answer["text"], answer["text"]


def test_every_kind_is_asked_for() -> None:
    for framework in ("torch", "jax"):
        source = (KINDS / f"trainers_{framework}.py").read_text().split("\nKINDS = {")[1].split("\n}\n")[0]
        written = {line.strip().split('"')[1] for line in source.splitlines() if line.startswith('    "')}
        assert written == {kind for expected, kind, _, _ in EXPECTED if expected == framework}
