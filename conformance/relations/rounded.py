"""What comes back from a checkpoint as it was saved but for rounding: to which dtype, and what of the state."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes  # noqa: F401 - teaches numpy the name bfloat16
import numpy as np

from conformance.evidence.evidence import ExtraRun
from conformance.evidence.gather import deviation, gathered
from conformance.relations.whole import difference

DTYPES = ("float32", "float16", "bfloat16")
SPOKEN = {"optimizer": "optimizer slots", "parameters": "parameters", "ema": "averages"}
FEWEST = 8  # elements that have changed: a few may be numbers of a dtype by chance


def rounded(saved: ExtraRun, loaded: ExtraRun) -> str:
    """A sentence where every loaded element is the saved one, rounded wherever it is not the same; else empty."""
    names = dict.fromkeys((*saved.observations, *loaded.observations))
    wrong = [name for name in names if difference(name, saved, loaded)]
    changed = sum(_changed(name, saved, loaded) for name in wrong)
    for dtype in DTYPES if changed >= FEWEST else ():
        if all(_is_rounded(name, saved, loaded, dtype) for name in wrong):
            return f"{_spoken(wrong)} are stored in {dtype}, or loaded in it"
    return ""


def _changed(name: str, saved: ExtraRun, loaded: ExtraRun) -> int:
    """How many elements are there and have other values; 0 of a tensor that only one of the two has."""
    before, after = saved.observations.get(name), loaded.observations.get(name)
    if before is None or after is None or before.shape != after.shape:
        return 0
    whole = gathered(after, loaded.mesh)
    return int(np.count_nonzero((whole != gathered(before, saved.mesh)) & (whole != 0)))


def _is_rounded(name: str, saved: ExtraRun, loaded: ExtraRun, dtype: str) -> bool:
    """Whether each copy of a changed tensor is the saved one, rounded at once or by way of float32."""
    if not _changed(name, saved, loaded):
        return False
    before, after = gathered(saved.observations[name], saved.mesh), loaded.observations[name]
    with np.errstate(over="ignore"):
        ways = (before.astype(dtype), before.astype(np.float32).astype(dtype))
    return any(not deviation(after, way.astype(np.float64), loaded.mesh).any() for way in ways)


def _spoken(names: Sequence[str]) -> str:
    kinds = dict.fromkeys(name.partition("/")[0] for name in names)
    return " and ".join(SPOKEN.get(kind, f"'{kind}'") for kind in kinds)
