"""A state that comes back rounded is told with its dtype and with what of it is concerned, any other one is not."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes  # noqa: F401 - teaches numpy the name bfloat16
import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Block, ExtraRun, Observed
from conformance.relations.checkpoint import LOADED, SAVED, Checkpoint
from conformance.relations.damaged_checkpoint import WHOLE, DamagedCheckpoint

MESH = Mesh.parse("data=2")
RNG = np.random.default_rng(0)
STATE = {name: RNG.normal(size=16) for name in ("parameters/w", "optimizer/momentum/w", "optimizer/variance/w")}
BROKEN = "breaks the relation 'checkpoint'"
Change = Callable[[str, np.ndarray], np.ndarray]


def _run(label: str, change: Change = lambda name, value: value, second: Change | None = None) -> ExtraRun:
    """Both ranks have copies, which change alike unless the second one changes by itself."""
    observations = {}
    for name, value in STATE.items():
        changes = (change, second or change)
        blocks = tuple(
            Block(ranks=(rank,), index=(slice(0, 16),), value=changed(name, value.copy()))
            for rank, changed in enumerate(changes)
        )
        observations[name] = Observed(shape=(16,), dtype="float64", blocks=blocks)
    return ExtraRun(label=label, mesh=MESH, observations=observations)


def _in(dtype: str, kind: str, way: str = "float64") -> Change:
    def change(name: str, value: np.ndarray) -> np.ndarray:
        return value.astype(way).astype(dtype).astype(float) if name.startswith(kind) else value

    return change


def _cause(change: Change, second: Change | None = None) -> str:
    return Checkpoint().cause([_run(SAVED), _run(LOADED, change, second)])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_in("bfloat16", "optimizer/"), "optimizer slots are stored in bfloat16, or loaded in it"),
        (_in("bfloat16", "optimizer/", "float32"), "optimizer slots are stored in bfloat16, or loaded in it"),
        (_in("float16", "parameters/"), "parameters are stored in float16, or loaded in it"),
        (_in("float32", ""), "parameters and optimizer slots are stored in float32, or loaded in it"),
    ],
)
def test_a_rounded_state_is_told_with_its_dtype(change: Change, said: str) -> None:
    assert _cause(change) == said
    assert DamagedCheckpoint().cause([_run(SAVED), _run(WHOLE, change)]) == said


@pytest.mark.parametrize(
    "change",
    [
        lambda name, value: 0 * value,  # never stored
        lambda name, value: value * (1 + 2.0**-9),  # of the size of rounding, and not it
        lambda name, value: _in("bfloat16", "")(name, value) + (name == "parameters/w"),
        lambda name, value: np.roll(value, 1),
    ],
)
def test_what_comes_back_otherwise_is_not_rounded(change: Change) -> None:
    assert _cause(change) == BROKEN


def test_of_copies_that_differ_and_of_a_load_that_fails_nothing_more_is_said() -> None:
    assert _cause(_in("bfloat16", "optimizer/"), _in("float32", "optimizer/")) == BROKEN
    refused = ExtraRun(label=LOADED, mesh=MESH, observations={}, refused="KeyError")
    assert Checkpoint().cause([_run(SAVED), refused]) == BROKEN
    lost = ExtraRun(label=LOADED, mesh=MESH, observations={})
    assert Checkpoint().cause([_run(SAVED), lost]) == BROKEN
