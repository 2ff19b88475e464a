"""Optimizers in parts, nested outputs, what nothing reaches; and hollow programs, which fail or are no full pass."""

from __future__ import annotations

from functools import cache

import pytest

from tests.strangers.answers import NONE, answers

EXPECTED = [  # framework, kind, verdict, what it says
    ("torch", "zero redundancy", "pass", "trajectory: pass"),
    ("torch", "zero redundancy in float32", "pass", "trajectory: pass"),
    ("torch", "parts", "pass", "trajectory: pass"),
    ("torch", "one part", "fail", "step 1: updates/up.bias"),
    ("torch", "unreached", "pass", "trajectory: pass"),
    ("torch", "unreached and unsaid", "fail", "or say still=('gradients/spare.weight',) if that is meant"),
    ("torch", "torch's average", "pass", "trajectory: pass"),
    ("torch", "torch's average for a decay", "error", "AveragedModel, whose first update copies the parameters"),
    ("torch", "learns nothing", "fail", "'updates' of the reference are zero in every step"),
    ("torch", "learns nothing on purpose", "pass", ""),
    ("torch", "flattened", "error", "shard with `torch.distributed.fsdp.fully_shard`"),
    ("torch", "of everything", "pass", "pass, layout and communication not held"),
    ("torch", "of everything", "pass", "Every rank along axis 'data' computes everything, and hands over a part of it"),
    ("torch", "unreduced", "fail", "average missing: every rank kept its own mean on axis data"),
    ("torch", "unreduced twins", "pass", "pass, census and communication not held"),
    ("torch", "unreduced twins", "pass", "The rows of the batch are 2 equal parts"),
    ("jax", "nested outputs", "pass", ""),
    ("jax", "nested outputs in bfloat16", "pass", ""),
    ("torch", "first alone", "fail", "One rank along axis 'data' makes all products, another one none"),
    ("jax", "schedule", "pass", "tensors of step 1, which that does not reach, are held in full"),
    ("jax", "schedule and wrong", "fail", "step 1: gradients/up rows 4-5 is off by"),
    ("jax", "masked", "pass", ""),
    ("jax", "masked in bfloat16", "pass", ""),
    ("jax", "unmasked", "fail", "step 1: outputs/y is off by inf"),
    ("jax", "first alone", "fail", "One rank along axis 'data' makes all products, another one none"),
    ("jax", "whole with Adam", "fail", "Axis 'data' divides nothing"),
    ("jax", "one device", "fail", "One device computes everything"),
    ("jax", "one device in shards", "fail", "One device computes everything"),
    ("jax", "learns nothing", "fail", "'updates' of the reference are zero in every step"),
]
OF_THE_REFERENCE = [("torch", "unreached and unsaid"), ("torch", "learns nothing"), ("jax", "learns nothing")]


@cache
def judged(framework: str) -> dict[str, dict]:
    """All kinds of a framework in one process, whose workers they share."""
    kinds = [kind for expected, kind, _, _ in EXPECTED if expected == framework]
    return answers(f"odd_{framework}.py", kinds, timeout=400)


@pytest.mark.parametrize(("framework", "kind", "verdict", "says"), EXPECTED)
def test_a_kind_of_program_is_judged_as_it_deserves(framework: str, kind: str, verdict: str, says: str) -> None:
    answer = judged(framework).get(kind, NONE)
    assert answer["verdict"] == verdict, answer["text"]
    assert says in answer["text"]


@pytest.mark.parametrize(("framework", "kind"), OF_THE_REFERENCE)
def test_what_lies_in_the_reference_is_no_cause_in_the_candidate(framework: str, kind: str) -> None:
    assert "likely" not in judged(framework).get(kind, NONE)["text"]


def test_a_refusal_is_a_sentence_without_our_stack() -> None:
    assert "Traceback" not in judged("torch").get("flattened", NONE)["text"]
