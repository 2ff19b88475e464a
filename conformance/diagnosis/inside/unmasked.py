"""Parts of a sum that should be zero: every element is right on the rank that owns it, and something else elsewhere.

So it is where a vocabulary is divided and what a rank looks up outside of its rows is not masked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.blocks import CLOSE, on_all
from conformance.diagnosis.inside.matching import Matcher
from conformance.evidence.intermediates import Intermediate


def unmasked(value: Intermediate, matcher: Matcher, mesh: Mesh) -> str | None:
    """The axis along which one rank has each element, and the others have another one."""
    held = on_all(value, mesh)
    if held is None:
        return None
    for whole, dims in matcher.in_blocks_of(held[0].shape):
        divided = {axis for axis, _ in dims}
        wanted = {rank: matcher.block(whole, dims, rank) for rank in held}
        for axis, size in mesh.sizes:
            if size > 1 and axis not in divided and _owned(held, wanted, mesh.groups(axis)):
                return axis
    return None


def _owned(held: Mapping[int, np.ndarray], wanted: Mapping[int, np.ndarray], groups: list[list[int]]) -> bool:
    """Whether in every group each element is right on some rank, and some element on no more than one."""
    alone = False
    for group in groups:
        slack = CLOSE * float(np.abs(wanted[group[0]]).max(initial=0.0))
        right = sum((np.abs(held[rank] - wanted[rank]) <= slack).astype(int) for rank in group)
        if not np.all(right):
            return False
        alone = alone or bool((right == 1).any())
    return alone
