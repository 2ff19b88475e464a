"""What a ring holds is known again turn by turn, and so is the mask that is laid over it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediate, Intermediates

RNG = np.random.default_rng(0)
PRODUCT = Intermediate(number=0, operation="dot_general", place="model.py:3", phase="forward", sources=())
RING = Mesh.parse("sequence=4")
SCORES = np.where(np.tri(8, dtype=bool), RNG.normal(size=(2, 8, 8)), -np.inf)


def _step(step: int, mask: np.ndarray) -> dict[int, np.ndarray]:
    """Scores of each rank's queries with the keys that have come from `step` ranks away."""
    full = np.where(mask, np.nan_to_num(SCORES, neginf=3.0), -np.inf)
    columns = {rank: slice(2 * ((rank + step) % 4), 2 * ((rank + step) % 4) + 2) for rank in range(4)}
    return {rank: full[:, 2 * rank : 2 * rank + 2, columns[rank]] for rank in range(4)}


@pytest.mark.parametrize("step", [0, 1, 3])
def test_what_a_ring_holds_is_known_again_beneath_its_mask(step: int) -> None:
    twin = Intermediates(values=(replace(PRODUCT, values={0: SCORES}),))
    right = replace(PRODUCT, values=_step(step, np.tri(8, dtype=bool)))
    match = Matcher(twin, RING).match(right)
    assert match is not None
    assert ("sequence", 1) in match.dims
    wrong = replace(PRODUCT, values={rank: block + 0.01 for rank, block in right.values.items()})
    assert Matcher(twin, RING).match(wrong) is None


def _masked(step: int, mask: np.ndarray, fill: float) -> list[str]:
    """What is said of a ring whose second block is masked so."""
    products = replace(PRODUCT, values=_step(step, np.ones((8, 8), dtype=bool)))
    values = {r: np.where(np.isinf(x), fill, x) for r, x in _step(step, mask).items()}
    scores = replace(PRODUCT, number=1, operation="where", place="ring.py:7", sources=(0,), values=values)
    largest = replace(PRODUCT, number=2, operation="max", place="ring.py:9", sources=(1,))
    largest = replace(largest, values={rank: block.max(-1) for rank, block in values.items()})
    whole = np.nan_to_num(SCORES, neginf=3.0)
    twin = (
        replace(PRODUCT, values={0: whole}),
        replace(scores, sources=(0,), values={0: np.where(np.isinf(SCORES), fill, whole)}),
    )
    wide = Intermediates(values=(products, scores, largest), observed={"outputs/y": (2,)})
    causes = first_divergence(wide, Intermediates(values=twin, observed={"outputs/y": (1,)}), RING, "outputs/y")
    return [cause.cause for cause in causes]


@pytest.mark.parametrize("fill", [-np.inf, -1e30])
def test_a_mask_that_counts_from_the_first_token_of_a_shard_is_named(fill: float) -> None:
    local = np.tile(np.tri(2, dtype=bool), (4, 4))
    assert "another mask than on one device, that of another block: where at ring.py:7, forward pass" in _masked(
        1, local, fill
    )


@pytest.mark.parametrize("fill", [-np.inf, -1e30])
def test_a_right_mask_is_not_named(fill: float) -> None:
    said = _masked(3, np.tri(8, dtype=bool), fill)
    assert said
    assert not [cause for cause in said if "mask" in cause]
