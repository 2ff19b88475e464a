"""How a contract is made of a model, a recipe and batches: one function for the tables of all suites."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from conformance.contract.contract import Arrays, Contract, Recipe
from reference.architecture import Architecture, shapes
from reference.batches import random_batches
from reference.keys import KEYS
from reference.parameters import draw

REFERENCES = {"jax": "reference.jax.training:Trainer", "torch": "reference.torch.training:Trainer"}
EVALUATED = {"jax": "reference.jax.evaluation:Trainer", "torch": "reference.torch.evaluation:Trainer"}
QUADRATIC = {"loss": "half the squared error of valid rows, summed, divided by valid rows x features"}
CROSS_ENTROPY = {
    "cross_entropy": "label-smoothed negative log-likelihood of the valid tokens of the whole batch, by their number",
    "z_loss": "coefficient x logsumexp(logits)^2, summed and divided likewise (PaLM, section 5)",
}
CONTRASTIVE = {
    "contrastive": "cross-entropy of finding the other half of a valid row among those of all valid rows, mean of both "
    "directions, summed over the valid rows of the whole batch, by their number (CLIP, figure 3)"
}

ROWS = 24  # divide by every data x accumulation of the matrices
LENGTH = 7  # a prime unlike any other dim


_SEMANTICS = {"language_model": CROSS_ENTROPY, "contrastive": CONTRASTIVE}


def contract(
    name: str,
    summary: str,
    model: Architecture,
    recipe: Recipe,
    *,
    batches: Callable[..., list[Arrays]] = random_batches,
    rows: int = ROWS,
    length: int = LENGTH,
    exact: bool = False,
    relations: tuple[str, ...] = (),
    **declared: Any,
) -> Contract:
    """A contract of a reference model. `relations` are checked besides those of its kind."""
    canonical = shapes(model)
    dyadic = {"dyadic": True} if exact else {}
    return Contract(
        name=name,
        summary=summary,
        model=model,
        shapes=canonical,
        parameters=partial(draw, canonical, **dyadic),
        batches=partial(batches, model, rows, length, **dyadic),
        references=REFERENCES,
        recipe=recipe,
        semantics=_SEMANTICS.get(model.kind, QUADRATIC),
        keys=KEYS,
        exact=exact,
        relations=(*relations_of(model, recipe), *relations),
        **declared,
    )


def relations_of(model: Architecture, recipe: Recipe) -> tuple[str, ...]:
    """The relations that hold for every model of a kind; they cost a step each.

    To the bit, a mixture of experts leaks from later tokens: how many rows are multiplied at once depends on them, and
    with a capacity what is dropped does too. And which rows a slice has matters where a loss is a mean over slices.
    """
    attends = bool(model.layers) or model.kind in ("attention", "layer")
    causal = ("causal leak",) if attends and model.causal and not model.experts else ()
    dropped = ("dropout masks",) if model.dropout else ()
    of_slices = recipe.accumulation > 1 and (model.balance_loss or model.router_z_loss)
    of_order = model.capacity_factor and model.capacity_scope == "batch"  # an earlier row takes the places of a later
    permuted = () if of_slices or of_order else ("batch permutation",)
    return ("masked batch", *permuted, *causal, *dropped)
