"""The contracts of collectives: one per collective and way of calling it, with what one device computes instead."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from conformance.cases.case import DTYPES
from conformance.contract.contract import Contract, Recipe
from conformance.contract.placements import Placement, Shard
from reference import rows
from suites.collectives.model import Collective

REFERENCES = {"jax": "reference.jax.rows:Trainer", "torch": "reference.torch.rows:Trainer"}
SGD = Recipe(optimizer="sgd", weight_decay=0.0)
SLOW = Recipe(optimizer="sgd", weight_decay=0.0, learning_rate=2.0**-9)  # no two rows of a column ever become alike
# Operands stay whole and sums below 256: all rows of a column get the same update, and would be rounded the same way.
WHOLE = Recipe(optimizer="sgd", weight_decay=0.0, learning_rate=1.0, momentum=0.0)
KEYS = {
    "weights": "of every element of the result, for every reader, in the loss: small whole numbers",
    "counts": "whole numbers that float32 cannot hold, which the same collective carries",
}
LOSS = {"loss": "the result, weighted element by element for every reader, summed"}

ROWS, FEATURES = 24, 24
UNEVEN_ROWS, UNEVEN_FEATURES = 13, 13
PLANE, SPACE = ("data", "tensor"), ("data", "tensor", "pipeline")

_SUM = Collective(collective="all_reduce", function="sum", rows=ROWS, readers=ROWS)
_GATHER = Collective(collective="all_gather", function="same", rows=ROWS, readers=ROWS, features=2)
_SCATTER = Collective(collective="reduce_scatter", function="sum", rows=ROWS, features=FEATURES)
_EXCHANGE = Collective(collective="all_to_all", function="transpose", rows=ROWS, features=FEATURES)
_RING = Collective(collective="permute", function="roll", rows=ROWS)
_BROADCAST = Collective(collective="broadcast", function="row", rows=ROWS, readers=ROWS, root=17)

# name -> (model, what must hold)
_PLAIN: dict[str, tuple[Collective, str]] = {
    "all_reduce_sum": (_SUM, "the sum over all devices on each of them; gradients are summed likewise"),
    "all_reduce_mean": (replace(_SUM, function="mean"), "the mean over all devices; gradients are averaged"),
    "all_reduce_max": (replace(_SUM, function="max"), "the largest; the gradient goes to the row that has it"),
    "all_reduce_min": (replace(_SUM, function="min"), "the smallest; the gradient goes to the row that has it"),
    "all_gather": (_GATHER, "all parts on each device, in order; gradients are summed and scattered"),
    "reduce_scatter": (_SCATTER, "to each device its part of the sum; gradients are gathered"),
    "all_to_all": (_EXCHANGE, "part i to device i, as a transpose; gradients go the other way"),
    "permute_ring": (_RING, "rows move on by one, round the ring; gradients move back"),
    "permute_open": (replace(_RING, function="shift"), "rows move on by one, and zeros come in at the open end"),
    "permute_reverse": (replace(_RING, function="reverse"), "device i and device k - 1 - i exchange their rows"),
    "broadcast": (_BROADCAST, "the row of one device on all of them; gradients are summed there"),
}
_LINEAR = ("all_reduce_sum", "all_gather", "reduce_scatter", "all_to_all", "permute_ring", "broadcast")


def _short(model: Collective) -> Collective:
    """Sizes that no axis divides."""
    readers = UNEVEN_ROWS if model.readers else 0
    features = UNEVEN_FEATURES if model.features == FEATURES else model.features
    return replace(model, rows=UNEVEN_ROWS, features=features, readers=readers, root=model.root and 11)


def _variants() -> dict[str, tuple[Collective, str]]:
    table = dict(_PLAIN)
    for name in (*_LINEAR, "all_reduce_max"):
        model, summary = _PLAIN[name]
        table[f"{name}_uneven"] = (_short(model), f"{summary}; 13 rows and features")
    for name in _LINEAR:
        model, summary = _PLAIN[name]
        table[f"{name}_strided"] = (replace(model, strided=True), f"{summary}; operands in another memory order")
        table[f"{name}_int32"] = (replace(model, whole=True), f"{summary}; whole numbers beyond float32 besides")
        table[f"{name}_2d"] = (replace(model, axes=PLANE), f"{summary}; over two axes at once")
        table[f"{name}_3d"] = (replace(model, axes=SPACE), f"{summary}; over three axes at once")
    return table


def _contract(name: str, model: Collective, summary: str, **declared: Any) -> Contract:
    return Contract(
        name=f"collectives/{name}",
        summary=summary,
        model=model,
        shapes=rows.shapes(model),
        parameters=partial(rows.draw, model),
        batches=partial(rows.batches, model),
        references=REFERENCES,
        recipe=_recipe(model),
        semantics=LOSS,
        layouts=_layouts(name, model),
        exact=True,
        exact_dtypes=DTYPES,
        keys=KEYS,
        **declared,
    )


def _recipe(model: Collective) -> Recipe:
    if model.function in ("max", "min"):
        return SLOW
    return WHOLE if model.collective == "reduce_scatter" else SGD


def _layouts(name: str, model: Collective) -> dict[str, dict[str, Placement]]:
    """What is scattered must come back scattered; what no axis divides is padded as the program likes."""
    if model.readers or name.endswith("_uneven"):
        return {}
    lanes = Shard(len(model.result) - 1)
    return {"outputs/y": {axis: Shard(0) if axis in model.axes else lanes for axis in SPACE}}


RELATED = (*_LINEAR, "all_reduce_sum_2d", "all_gather_2d", "reduce_scatter_2d")

CONTRACTS = tuple(
    _contract(name, model, summary, relations=("mesh permutation",) if name in RELATED else ())
    for name, (model, summary) in _variants().items()
)
