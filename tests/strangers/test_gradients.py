"""Heads that a step does not reach, optimizers in the backward pass, sparse gradients: right ones pass, faults fail."""

from __future__ import annotations

from functools import cache

import pytest

from tests.strangers.answers import KINDS, NONE, answers

EXPECTED = [  # kind, verdict, what it says
    ("heads by step", "pass", "trajectory: pass"),
    ("heads by row", "pass", "trajectory: pass"),
    ("heads by row in float32", "pass", "trajectory: pass"),
    ("heads by row, averaged by hand", "pass", ""),
    ("heads, zeroed at the end", "pass", ""),
    ("heads, zeros kept", "fail", "given zeros where the reference has no gradient, on one device too"),
    ("heads, zeros kept", "fail", "or give a class as reference that sets them to zero too"),
    ("heads, zeros kept, in a class", "pass", ""),
    ("heads, zeros kept by SGD", "pass", ""),
    ("heads with two optimizers", "pass", ""),
    ("heads in slices", "pass", ""),
    ("heads in slices of the reference", "pass", ""),
    ("heads, one rank without", "fail", "'gradients/heads.0.bias' is missing on rank 1."),
    ("heads, detached", "fail", "'gradients/heads.2.bias' is missing from step 2."),
    ("closing", "pass", ""),
    ("never closed", "fail", "step 3: gradients/body.bias"),
    ("fused", "pass", "trajectory: pass"),
    ("fused with FSDP2", "pass", "trajectory: pass"),
    ("fused in a dict", "pass", ""),
    ("fused, unnamed", "error", "has no attribute 'optimizer', nor a method 'collect'"),
    ("fused, forgotten", "error", "its step returns 'gradients' too, copied before"),
    ("fused too early", "fail", "average missing: every rank kept its own mean on axis data"),
    ("table", "pass", "layout: pass"),
    ("table in float32", "pass", ""),
    ("table of a rank", "fail", "average missing: every rank kept its own mean on axis data"),
    ("trained table", "pass", "trajectory: pass"),
    ("trained table in DDP", "pass", ""),
    ("trained table, rows alone", "pass", ""),
    ("trained table of a rank", "fail", "step 1: gradients/embed.weight"),
]


@cache
def judged() -> dict[str, dict]:
    """All kinds in one process, whose workers they share."""
    return answers("gradients_torch.py", [kind for kind, _, _ in EXPECTED], timeout=900)


@pytest.mark.parametrize(("kind", "verdict", "says"), EXPECTED)
def test_a_kind_of_gradient_is_judged_as_it_deserves(kind: str, verdict: str, says: str) -> None:
    answer = judged().get(kind, NONE)
    assert answer["verdict"] == verdict, answer["text"]
    assert says in answer["text"], answer["text"]


def test_a_program_that_is_right_is_no_reason_for_a_stack() -> None:
    assert not [kind for kind, answer in judged().items() if "Traceback" in answer["text"]]


def test_every_kind_is_asked_for() -> None:
    source = (KINDS / "gradients_torch.py").read_text().split("\nKINDS = {")[1].split("\n}\n")[0]
    written = {line.strip().split('"')[1] for line in source.splitlines() if line.startswith('    "')}
    assert written == {kind for kind, _, _ in EXPECTED}
