"""Weight decay in the gradient, or beside it: what the optimizer keeps after the first step tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.contract import Recipe
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause
from conformance.runner.judge import judge
from tests.engine import specimen
from tests.engine.specimen import PLACED, SHAPES, case_run, sharded

INITIAL, ORACLE = specimen.reference().initial, specimen.reference().oracle[0]
NORM = float(ORACLE["metrics/grad_norm"])
ADAMW, LAMB = (Recipe(optimizer=name, clip_norm=0.5, steps=2, weight_decay=0.25) for name in ("adamw", "lamb"))
SGD = Recipe(clip_norm=0.5, steps=2, weight_decay=0.25)
COUPLED, INSTEAD = "weight decay is added to the gradient", " instead of being decoupled"
DECOUPLED = "weight decay is decoupled instead of being added to the gradient"
Step = dict[str, np.ndarray]


def _step(recipe: Recipe, inside: float, outside: float, early: float = 0.0) -> Step:
    """What a first step leaves, with so much decay in the clipped gradient, beside it, and in what is clipped."""
    made: Step = {}
    gradients = {name: ORACLE[f"gradients/{name}"] + early * INITIAL[name] for name in SHAPES}
    norm = np.sqrt(sum(float(np.sum(g**2)) for g in gradients.values()))
    for name, p in INITIAL.items():
        g = gradients[name] * min(1.0, (recipe.clip_norm or norm) / norm) + inside * p
        first, second = recipe.betas
        m, v = (1 - first) * g, (1 - second) * g * g
        direction = g / (np.abs(g) + recipe.epsilon) + outside * p
        ratio = np.linalg.norm(p) / np.linalg.norm(direction) if recipe.optimizer == "lamb" else 1.0
        step = g + outside * p if recipe.optimizer == "sgd" else ratio * direction
        made[f"updates/{name}"] = -recipe.learning_rate * step
        kept = {"momentum": g} if recipe.optimizer == "sgd" else {"first_moment": m, "second_moment": v}
        made |= {f"optimizer/{slot}/{name}": value for slot, value in kept.items()}
    return made


def _run(recipe: Recipe, right: Step, held: Step, monkeypatch: pytest.MonkeyPatch) -> CaseRun:
    """A first step that should leave what is right, and leaves what is held; the second is right."""
    placed = {f"optimizer/{slot}/w": PLACED["gradients/w"] for slot in ("first_moment", "second_moment")}
    monkeypatch.setattr(specimen, "PLACED", PLACED | placed)
    made = case_run()
    rest = {name: value for name, value in ORACLE.items() if not name.startswith(("updates/", "optimizer/"))}
    ordered = {name: right[name] for name in sorted(right, key=lambda name: not name.startswith("updates/"))}
    oracle = rest | ordered
    noise = {name: np.full(value.shape, 2e-16) for name, value in oracle.items()}
    seen = {name: made.evidence.steps[0][name] for name in rest}
    for name, value in held.items():
        stored = name.replace("updates/", "parameters/")
        start = INITIAL[name.removeprefix("updates/")] if stored != name else 0.0
        seen[stored] = sharded(stored, start + value)
    reference = replace(
        made.reference, oracle=(oracle, made.reference.oracle[1]), noise=(noise, made.reference.noise[1])
    )
    evidence = replace(made.evidence, steps=(seen, made.evidence.steps[1]), repeated=seen)
    return replace(made, contract=specimen.contract(recipe=recipe), reference=reference, evidence=evidence)


def _causes(made: CaseRun) -> list[Cause]:
    return [cause for result in judge(made) for cause in result.diagnosis]


def _mixed(recipe: Recipe) -> Step:
    """The moments are right, and decay is in the direction twice."""
    return _step(recipe, 0, 0.25) | {k: v for k, v in _step(recipe, 0, 0.5).items() if k.startswith("updates/")}


@pytest.mark.parametrize(
    ("recipe", "right", "held", "said"),
    [
        (ADAMW, (0, 0.25), (0.25, 0), COUPLED + INSTEAD),
        (LAMB, (0, 0.25), (0.25, 0), COUPLED + INSTEAD),
        (ADAMW, (0, 0.25), (0, 0, 0.25), COUPLED + INSTEAD),  # before gradients are clipped
        (ADAMW, (0, 0.25), (0.25, 0.25), f"{COUPLED}, and taken from the parameter too"),
        (SGD, (0.25, 0), (0, 0.25), DECOUPLED),
    ],
)
def test_decay_is_told_by_what_the_optimizer_keeps(
    recipe: Recipe,
    right: tuple[float, ...],
    held: tuple[float, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = _causes(_run(recipe, _step(recipe, *right), _step(recipe, *held), monkeypatch))[0]
    assert (best.cause, best.axis, best.confidence, best.place) == (said, None, 0.95, False)


@pytest.mark.parametrize(
    ("recipe", "right", "held"),
    [
        (ADAMW, (0, 0.25), lambda: _step(ADAMW, 0, 0)),  # decay is left out
        (ADAMW, (0, 0.25), lambda: _mixed(ADAMW)),
        (ADAMW, (0, 0.25), lambda: _step(ADAMW, 0.1, 0)),  # of another size
        (ADAMW, (0, 0.25), lambda: _step(replace(ADAMW, betas=(0.5, 0.96875)), 0, 0.25)),
        (ADAMW, (0, 0.25), lambda: _step(replace(ADAMW, clip_norm=0.25), 0, 0.25)),
        (SGD, (0.25, 0), lambda: _step(SGD, 0, 0)),  # decay is left out
        (SGD, (0.25, 0), lambda: _step(SGD, 0.5, 0)),
        (SGD, (0.25, 0), lambda: _step(replace(SGD, clip_norm=0.25), 0.25, 0)),
    ],
)
def test_of_what_is_wrong_otherwise_no_coupling_is_said(
    recipe: Recipe, right: tuple[float, ...], held: Callable[[], Step], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = judge(_run(recipe, _step(recipe, *right), held(), monkeypatch))
    assert any(result.verdict == "fail" for result in results)
    assert not any("weight decay is" in cause.cause for result in results for cause in result.diagnosis)


@pytest.mark.parametrize(("decay", "said"), [(0.25, True), (0.5, False), (-0.25, False)])
def test_a_gradient_with_decay_in_it(decay: float, said: bool) -> None:
    made = case_run(
        lambda name, step, value: value + decay * INITIAL["w"] if (name, step) == ("gradients/w", 0) else value
    )
    causes = _causes(replace(made, contract=specimen.contract(recipe=ADAMW)))
    assert causes
    assert any(cause.cause == f"{COUPLED} before its norm is taken" for cause in causes) is said
