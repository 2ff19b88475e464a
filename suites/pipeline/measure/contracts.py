"""Models large enough to be timed, under numbers of microbatches that a picture needs."""

from __future__ import annotations

from dataclasses import replace

from conformance.contract.contract import Contract, Recipe
from reference.architecture import Architecture
from suites.training.contracts import contract

ROWS = 64  # of a microbatch
_SGD = Recipe(optimizer="sgd", learning_rate=0.5, steps=3)
_EVEN = Architecture(kind="perceptron", widths=(256,) * 9)  # eight layers alike: bubbles are those of the schedule
_WIDE = replace(_EVEN, widths=(768,) * 9)
_UNEVEN = Architecture(kind="perceptron", widths=(784, 2048, 1024, 256, 256, 256, 256, 128, 10))
_TIMED_ROWS = 96


def _named(name: str, model: Architecture, microbatches: int, rows: int) -> Contract:
    recipe = replace(_SGD, microbatches=microbatches)
    summary = f"{microbatches} microbatches of {rows} rows"
    return contract(f"pipeline/{name}", summary, model, recipe, rows=microbatches * rows)


m2, m4, m8, m16, m32 = (_named("even", _EVEN, number, ROWS) for number in (2, 4, 8, 16, 32))
timed2, timed4, timed8 = (_named("wide", _WIDE, number, _TIMED_ROWS) for number in (2, 4, 8))
uneven = _named("uneven", _UNEVEN, 8, _TIMED_ROWS)
