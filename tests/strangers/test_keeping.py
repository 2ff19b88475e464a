"""Trainers in JAX that keep more than parameters: a right one passes whatever it keeps, and wherever; others fail."""

from __future__ import annotations

from functools import cache

import pytest

from tests.strangers.answers import KINDS, NONE, answers

UNSEEN = (
    "The step was not watched, because it cannot be traced as a whole (Unreadable: 'parameters/up' is in no attribute"
)
EXPECTED = [  # kind, verdict, what it says
    ("a counter", "pass", "determinism: pass"),
    ("a counter in bfloat16", "pass", "determinism: pass"),
    ("a counter that stands", "fail", "step 2: updates/down is off"),
    ("a counter in a dict", "pass", ""),
    ("an iterator", "pass", ""),
    ("a counter in a closure", "pass", ""),
    ("slots", "pass", UNSEEN),
    ("a reference that counts in a closure", "pass", ""),
    ("a fault against such a reference", "fail", "step 2: updates/down is off"),
    ("a fault against an iterator", "fail", "step 2: updates/down is off"),
    ("a counted key", "pass", "determinism: pass"),
    ("a generator", "pass", "determinism: pass"),
    ("a fault against a generator", "fail", "traced, it has another 'loss' than when it runs"),
    ("unsteady", "fail", "determinism: fail"),
    ("last", "pass", "trajectory: pass"),
    ("losses", "pass", "trajectory: pass"),
    ("later", "pass", ""),
    ("deletes", "pass", ""),
    ("donates", "pass", ""),
    ("shared", "pass", ""),
    ("shared by what was traced", "pass", ""),
    ("in a namespace", "pass", "trajectory: pass"),
    ("in a namespace, with a fault", "fail", "step 1: optimizer/count is off"),
    ("whole on every rank", "fail", "Axis 'tensor' divides nothing"),
    ("in a closure", "pass", UNSEEN),
    ("a train state", "pass", "trajectory: pass"),
    ("metrics", "pass", ""),
]


@cache
def judged() -> dict[str, dict]:
    """All kinds in one process, whose workers they share."""
    return answers("keeping_jax.py", [kind for kind, _, _ in EXPECTED], timeout=600)


@pytest.mark.parametrize(("kind", "verdict", "says"), EXPECTED)
def test_a_trainer_is_judged_by_what_it_does(kind: str, verdict: str, says: str) -> None:
    answer = judged().get(kind, NONE)
    assert answer["verdict"] == verdict, answer["text"]
    assert says in answer["text"], answer["text"]


def test_what_is_seen_is_watched() -> None:
    seen = [kind for kind, verdict, says in EXPECTED if verdict == "pass" and says != UNSEEN]
    assert not [kind for kind in seen if "not watched" in judged().get(kind, NONE)["text"]]


def test_every_kind_is_asked_for() -> None:
    source = (KINDS / "keeping_jax.py").read_text().split("\nKINDS = {")[1].split("\n}\n")[0]
    written = {line.strip().split('"')[1] for line in source.splitlines() if line.startswith('    "')}
    assert written == {kind for kind, _, _ in EXPECTED}
