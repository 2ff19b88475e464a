"""Tensor parallelism: linear layers, vocabulary, attention and feed-forward split over the `tensor` axis."""

from __future__ import annotations

from conformance.cases.suite import ImplementationEntry, Suite
from suites.tensor.contracts import CONTRACTS
from suites.tensor.faults.table import FAULTS, NOT_APPLICABLE
from suites.tensor.matrix import MATRIX, MUTATED
from suites.training.variations import variations


def _class_of(contract: str) -> str:
    """Where, inside an implementation's folder, the class for a contract is."""
    part = contract.removeprefix("tensor/")
    if part.startswith(("linear_2d", "linear_submesh")):
        return {"linear_2d": "linear:Linear2D", "linear_submesh": "linear:LinearSubmesh"}[part]
    for prefix, where in _CLASSES.items():
        if part.startswith(prefix):
            return where
    raise ValueError(f"No class is known for the contract '{contract}'.")


_CLASSES = {
    "column_linear": "linear:ColumnLinear",
    "row_linear": "linear:RowLinear",
    "attention": "attention:Attention",
    "mlp": "feedforward:FeedForward",
    "swiglu": "feedforward:FeedForward",
    "layer": "transformer:Layer",
    "language_model": "transformer:LanguageModel",
    "vocabulary": "transformer:LanguageModel",
}


def _axis_types(name: str, summary: str, class_name: str) -> ImplementationEntry:
    """An implementation that honours one contract: what it shows is the types of mesh axes."""
    path = f"suites.tensor.jax_axis_types.feedforward:{class_name}"
    return ImplementationEntry(name=name, framework="jax", summary=summary, classes={"tensor/mlp": path})


def _registered(name: str, folder: str, summary: str) -> ImplementationEntry:
    classes = {contract.name: f"suites.tensor.{folder}.{_class_of(contract.name)}" for contract in CONTRACTS}
    return ImplementationEntry(name=name, framework=name.partition("-")[0], summary=summary, classes=classes)


SUITE = Suite(
    name="tensor",
    summary="Tensor parallelism: weights split over the tensor axis",
    contracts=CONTRACTS,
    implementations=(
        _registered("jax-shard_map", "jax_manual", "explicit collectives under shard_map"),
        _registered("jax-automatic", "jax_automatic", "sharding annotations, partitioned by XLA"),
        _axis_types("jax-explicit", "explicit axes, which stand in the type of every array", "ExplicitFeedForward"),
        _axis_types("jax-mixed", "explicit, automatic and manual axes in one program", "MixedFeedForward"),
        _registered("torch-collectives", "torch_manual", "explicit collectives in autograd functions"),
        _registered("torch-dtensor", "torch_dtensor", "torch's own DTensor and parallelize_module"),
    ),
    matrix=MATRIX,
    variations=variations(CONTRACTS),
    faults=FAULTS,
    mutated=MUTATED,
    not_applicable=NOT_APPLICABLE,
)
