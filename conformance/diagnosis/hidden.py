"""A mask that hides other elements than that of one device: all that both let through is the same."""

from __future__ import annotations

from conformance.contract.mesh import Mesh
from conformance.diagnosis.blocks import CLOSE, FILL, Blocks, filled
from conformance.diagnosis.matching import Matcher
from conformance.evidence.intermediates import Intermediate

ENOUGH = 4  # elements that both let through: numbers that are the same by chance are fewer


def hidden(value: Intermediate, matcher: Matcher, mesh: Mesh) -> str | None:
    """How many elements are hidden, or let through, that one device does not hide, or does; None for no mask."""
    held = {rank: filled(block).ravel() for rank, block in value.values.items()}
    sizes = {block.size for block in held.values()}
    if len(held) < mesh.devices or len(sizes) != 1 or not any((block == FILL).any() for block in held.values()):
        return None
    counts = (_counts(held, wanted) for wanted in matcher.blocks_of(sizes.pop()))
    differing = [pair for pair in counts if pair is not None]
    if not differing:
        return None
    more, fewer = min(differing, key=sum)
    total = sum(block.size for block in held.values())
    return f"of {total} elements it hides {more} that one device sees, and lets {fewer} through that it hides"


def _counts(held: Blocks, wanted: Blocks) -> tuple[int, int] | None:
    """Elements that are hidden here alone, and there alone; None where others differ, or none do."""
    more = fewer = same = 0
    for rank, block in held.items():
        right = wanted[rank].ravel()
        here, there = block == FILL, right == FILL
        both = ~here & ~there
        slack = CLOSE * float(abs(right).max(initial=0.0))
        if (abs(block - right)[both] > slack).any():
            return None
        more, fewer, same = (
            more + int((here & ~there).sum()),
            fewer + int((there & ~here).sum()),
            same + int(both.sum()),
        )
    return (more, fewer) if same >= ENOUGH and more + fewer else None
