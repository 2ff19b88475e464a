"""Policies of activation checkpointing: what the backward pass computes again. Framework-neutral.

Sources: Chen et al., Training Deep Nets with Sublinear Memory Cost (whole layers, every n-th one); Korthikanti et al.,
Reducing Activation Recomputation in Large Transformer Models, section 5 (the core of attention alone).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from conformance.contract.contract import Recipe
from conformance.contract.implementation import Unsupported

BLOCKS = ("none", "attention", "feedforward", "layer")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What is computed again.

    block   `none`, `attention` (its core), `feedforward` (the block behind its norm) or `layer` (whole layers)
    every   of whole layers: the first one and every n-th after it
    axis    of whole layers: what was summed or gathered over this mesh axis is kept; only what is local is done again
    """

    block: str
    every: int = 1
    axis: str | None = None

    def repeats_layer(self, name: str) -> bool:
        """Whether `layers.3` (or `layer`, the only one) is computed again."""
        number = int(name.rpartition(".")[2]) if "." in name else 0
        return self.block == "layer" and number % self.every == 0

    def repeated_layers(self, depth: int) -> int:
        """How many of a model's layers are computed again."""
        return len(range(0, depth, self.every)) if self.block == "layer" else 0


def policy_of(recipe: Recipe) -> Policy:
    """`layer`, `layer every 2`, `layer but tensor`, `attention`, `feedforward` or `none`, as a recipe has it."""
    match = re.fullmatch(r"(\w+)(?: every (\d+))?(?: but (\w+))?", recipe.recompute)
    if match is None or match[1] not in BLOCKS or ((match[2] or match[3]) and match[1] != "layer"):
        raise Unsupported(
            f"The recipe recomputes '{recipe.recompute}'. Known are {', '.join(BLOCKS)}, 'layer every N' and "
            "'layer but AXIS'."
        )
    return Policy(block=match[1], every=int(match[2] or 1), axis=match[3])
