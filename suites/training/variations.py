"""What of a contract may be drawn at random: sizes, awkward ones too, and what other contracts of the suite have.

Sizes are free; of fields that choose between ways to compute, the values are those that standing contracts of the same
suite and kind of model have, so that no implementation is asked for what its suite never promises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any

from conformance.cases.variation import Changes, Variations
from conformance.contract.contract import Contract, Recipe
from reference.architecture import Architecture, shapes
from reference.parameters import draw
from suites.moe.semantics import declared
from suites.training.contracts import relations_of

Values = Mapping[str, tuple[Any, ...]]

# Plain first: a failure is shrunk towards it. A size of 1, primes, fewer than there are ranks.
SIZES: Values = {
    "hidden": (16, 20, 6, 14, 2),
    "outputs": (16, 13, 7, 1, 3),
    "num_heads": (4, 8, 6, 2, 1, 3),
    "num_kv_heads": (4, 2, 1, 3),
    "head_size": (4, 6, 2, 10),
    "ffn": (16, 13, 7, 1, 3),
    "vocabulary": (32, 29, 11, 5, 3),
    "layers": (1, 2, 3, 4),
    "experts": (4, 6, 3, 5, 1),
    "top_k": (1, 2, 3),
    "shared_ffn": (8, 5, 1),
}
BATCH: Values = {"rows": (12, 24, 7, 13, 5, 2, 1), "length": (8, 7, 5, 2, 1)}
CHOICES = (
    "activation", "norm", "positions", "fused_qkv", "fused_gate_up", "head_norm", "bias", "tied", "label_smoothing",
    "z_loss", "scores", "normalized_gates", "gates_before", "router_bias", "balance_loss", "router_z_loss",
)  # fmt: skip
RECIPE: Values = {
    "optimizer": ("sgd", "adamw"),
    "accumulation": (1, 2, 3),
    "clip_norm": (None, 2**-6),  # so low that it always acts
    "weight_decay": (0.0, 0.0625),
    "decays": ("all", "weights"),
}
MICROBATCHES = (2, 4, 3, 6, 1)
RECOMPUTE = ("layer", "attention", "none")


def variations(contracts: Sequence[Contract]) -> Variations:
    """Those of the contracts of one suite."""
    return Variations(values=partial(_values, tuple(contracts)), varied=_varied)


def _values(contracts: tuple[Contract, ...], contract: Contract) -> Values:
    """None of what a contract without random batches, or of exact numbers, promises can be had with other sizes."""
    if contract.exact or not _is_plain(contract):
        return {}
    model = contract.model
    sizes = {field: values for field, values in SIZES.items() if getattr(model, field) and _has(model, field)}
    alike = [
        other.model for other in contracts if isinstance(other.model, Architecture) and other.model.kind == model.kind
    ]
    seen = {field: dict.fromkeys(getattr(other, field) for other in alike) for field in CHOICES}
    choices = {field: tuple(values) for field, values in seen.items() if len(values) > 1}
    optimizers = {"optimizer"} if contract.recipe.optimizer in RECIPE["optimizer"] else set()
    recipe = {field: values for field, values in RECIPE.items() if field != "optimizer" or optimizers}
    if contract.recipe.microbatches > 1:
        recipe |= {"microbatches": MICROBATCHES}
    if contract.recipe.recompute == "layer":
        recipe |= {"recompute": RECOMPUTE}
    return {**sizes, **choices, **BATCH, **recipe}


def _is_plain(contract: Contract) -> bool:
    """Whether its batches are drawn for a model, a number of rows and a length."""
    made = contract.batches
    whole = isinstance(made, partial) and len(made.args) == 3 and not made.keywords
    return whole and isinstance(contract.model, Architecture)


def _has(model: Architecture, field: str) -> bool:
    return bool(model.experts) or field not in ("experts", "top_k", "shared_ffn")


def _varied(contract: Contract, changes: Changes) -> Contract:
    """The contract with these values; all that follows from them is made again."""
    made = contract.batches
    assert isinstance(made, partial)
    _, rows, length = made.args
    model = replace(contract.model, **_of(Architecture, changes))
    recipe = replace(contract.recipe, **_of(Recipe, changes))
    batch = {"rows": rows, "length": length} | {key: changes[key] for key in BATCH if key in changes}
    _check(model)
    _check_slices(recipe, int(batch["rows"]))
    _check_length(model, int(batch["length"]))
    canonical = shapes(model)
    more = tuple(name for name in contract.relations if name not in relations_of(contract.model, contract.recipe))
    varied = replace(
        contract,
        model=model,
        shapes=canonical,
        parameters=partial(draw, canonical),
        batches=partial(made.func, model, batch["rows"], batch["length"]),
        recipe=recipe,
        relations=(*relations_of(model, recipe), *more),
        formulations=tuple(replace(other, **_of(Architecture, changes)) for other in contract.formulations),
    )
    return declared(varied) if model.experts else varied


def _of(kind: type[Architecture] | type[Recipe], changes: Changes) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in changes.items() if name in names}


def _check(model: Architecture) -> None:
    """Raise ValueError where sizes do not go together."""
    heads, kv_heads = model.num_heads, model.num_kv_heads
    if heads and heads % kv_heads:
        raise ValueError(f"{heads} heads cannot share {kv_heads} key heads evenly.")
    if model.router_bias is False and model.bias_update_rate:
        raise ValueError("Without a router bias nothing can move it.")
    if model.positions == "rotary" and model.head_size % 2:
        raise ValueError(f"Rotary positions turn pairs: a head of {model.head_size} is no number of them.")


def _check_length(model: Architecture, length: int) -> None:
    """Raise ValueError where nothing could be shown of some parameters."""
    if length == 1 and model.num_heads:
        raise ValueError("With one token there is one key to attend to: nothing moves queries and keys.")


def _check_slices(recipe: Recipe, rows: int) -> None:
    """Raise ValueError where one device cannot cut its batch into slices."""
    shares = recipe.shares or (1,) * recipe.accumulation
    if len(shares) != recipe.accumulation or rows % sum(shares):
        raise ValueError(f"{rows} rows cannot be cut into {recipe.accumulation} slices of the shares {shares}.")
