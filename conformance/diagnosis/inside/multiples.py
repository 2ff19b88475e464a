"""Multiples: a constant by which the blocks of all ranks differ from others."""

from __future__ import annotations

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, Blocks
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediate


def multiple_of(matcher: Matcher, value: Intermediate, of: Intermediate) -> float | None:
    """By what a value is a multiple of one of one device, however that is divided."""
    for dims in matcher.placements(of, next(iter(value.values.values())).shape):
        factor = constant(value.values, {rank: matcher.block(of, dims, rank) for rank in value.values})
        if factor is not None:
            return factor
    return None


def constant(values: Blocks, blocks: Blocks) -> float | None:
    """By what all blocks are a multiple of others, but for 1; one number beside zeros is a multiple of any."""
    held = np.concatenate([values[rank].ravel() for rank in values])
    right = np.concatenate([blocks[rank].ravel() for rank in values])
    if held.size != right.size or not np.isfinite(held).all() or not np.isfinite(right).all():
        return None
    power = float(right @ right)
    factor = float(held @ right) / power if power and np.count_nonzero(right) > 1 else 0.0
    close = CLOSE * float(np.abs(held).max(initial=0.0))
    same = bool(np.abs(held - factor * right).max(initial=0.0) <= close)
    return factor if same and factor and abs(factor - 1) > 1e-6 else None
