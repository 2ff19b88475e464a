"""Data parallelism with AdamW over accumulated slices."""

from __future__ import annotations

import jax

from reference.jax.rounding import rounded
from suites.data.jax_manual import data_parallel
from suites.training.jax import optimizers
from suites.training.jax.state import Named


class Program(data_parallel.LanguageModel):
    def update(self, state: dict, gradients: Named, factor: jax.Array) -> dict:
        recipe, slots, count = self.contract.recipe, dict(state["optimizer"]), state["count"] + 1
        iteration = count * recipe.accumulation
        wide = slots.pop("master", None) or {name: p.astype(self.master) for name, p in state["parameters"].items()}
        clipped = {name: factor * g for name, g in gradients.items()}
        wide, slots = optimizers.apply(recipe, wide, slots, clipped, iteration, self)
        stored = {name: rounded(p, self.stored_dtype) for name, p in wide.items()}
        slots |= {"master": wide} if self.master_dtype else {}
        return {"parameters": stored, "optimizer": slots, "count": count}
