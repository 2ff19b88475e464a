"""Right programs of many kinds pass `check`, what it cannot see is said, and what is wrong is still found."""

from __future__ import annotations

from functools import cache

import pytest

from tests.strangers.answers import NONE, answers

NOT_WATCHED = "The step was not watched, because"
UNSEEN = "Which devices hold something was not seen"

EXPECTED = [  # framework, kind, verdict, what it says
    *(("jax", f"plain in {dtype}", "pass", "") for dtype in ("float64", "float32", "bfloat16", "float16")),
    ("jax", "set_mesh", "pass", NOT_WATCHED),
    ("jax", "x.sharding", "pass", NOT_WATCHED),
    ("jax", "values", "pass", NOT_WATCHED),
    ("jax", "donation", "pass", NOT_WATCHED),
    ("jax", "flax", "pass", ""),
    ("jax", "numpy", "pass", UNSEEN),
    ("jax", "lists", "pass", UNSEEN),
    ("jax", "loss on one device", "pass", UNSEEN),
    ("jax", "jitted reference", "pass", ""),
    ("jax", "model=4", "pass", ""),
    ("jax", "dp=2,tp=2", "pass", "Axis 'dp' divides nothing"),
    ("jax", "x=2", "pass", ""),
    ("jax", "jax arrays", "pass", ""),
    ("jax", "wrong numpy", "fail", "step 1: loss is off by"),
    ("jax", "raises", "error", "right_jax.py:"),
    ("jax", "complex loss", "error", "it is complex"),
    ("jax", "complex reference", "error", "is complex: return its real"),
    *(
        (framework, *case)
        for framework in ("jax", "torch")
        for case in (
            ("single reference", "pass", "logic not held below float32 rounding"),
            ("single reference", "pass", "The reference computes in float32: tanh at "),
            ("single both", "pass", "So does the candidate: tanh at "),
            ("single candidate", "fail", "likely: computed in float32: tanh at "),
            ("single candidate", "fail", "Run with dtype='float32'"),
            ("single loss", "fail", "likely: computed in float32: sqrt at "),
        )
    ),
    ("jax", "single and wrong", "fail", "It is good to about 1e-07 only"),
    ("torch", "other names", "pass", ""),
    ("torch", "other names in bfloat16", "pass", ""),
    ("torch", "other order", "pass", ""),
    ("torch", "flat", "pass", ""),
    ("torch", "strided", "pass", ""),
    ("torch", "raises", "error", "right_torch.py:"),
]


@cache
def judged(framework: str) -> dict[str, dict]:
    """All kinds of a framework in one process, whose workers they share."""
    kinds = [kind for expected, kind, _, _ in EXPECTED if expected == framework]
    return answers(f"right_{framework}.py", kinds, timeout=280)


@pytest.mark.parametrize(("framework", "kind", "verdict", "says"), EXPECTED)
def test_a_kind_of_program_is_judged_as_it_deserves(framework: str, kind: str, verdict: str, says: str) -> None:
    answer = judged(framework).get(kind, NONE)
    assert answer["verdict"] == verdict, answer["text"]
    assert says in answer["text"]
