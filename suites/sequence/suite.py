"""Sequence and context parallelism: the tokens of a row are sharded over the `tensor` and the `sequence` axis."""

from __future__ import annotations

from conformance.cases.suite import ImplementationEntry, Suite
from suites.sequence.contracts import CONTRACTS
from suites.sequence.faults.table import FAULTS, NOT_APPLICABLE
from suites.sequence.matrix import MATRIX, MUTATED
from suites.training.variations import variations

# Where, inside an implementation's folder or file, the class for a contract is: by the kind of its model.
_CLASSES = {
    "attention": "Attention",
    "feedforward": "FeedForward",
    "layer": "Layer",
    "language_model": "LanguageModel",
}


def _class_of(contract: str, kind: str) -> str:
    if kind == "linear":
        return "ColumnLinear" if contract.startswith("sequence/column_linear") else "RowLinear"
    return _CLASSES[kind]


def _registered(name: str, module: str, summary: str, *kinds: str) -> ImplementationEntry:
    """All contracts, or those of models of some kinds."""
    classes = {
        contract.name: f"suites.sequence.{module}:{_class_of(contract.name, contract.model.kind)}"
        for contract in CONTRACTS
        if not kinds or contract.model.kind in kinds
    }
    return ImplementationEntry(name=name, framework=name.partition("-")[0], summary=summary, classes=classes)


_ROWS = ("attention", "layer", "language_model")  # models in which a token sees others

SUITE = Suite(
    name="sequence",
    summary="Sequence and context parallelism: the tokens of a row split over the tensor and the sequence axis",
    contracts=CONTRACTS,
    implementations=(
        _registered("jax-shard_map", "jax_manual.sequence_parallel", "Megatron sequence parallelism under shard_map"),
        _registered(
            "jax-ring_matmul", "jax_manual.ring_matmul", "the same, gathers overlapped with products in a ring"
        ),
        _registered("jax-ring", "jax_manual.ring", "ring attention, contiguous shards", *_ROWS),
        _registered(
            "jax-zigzag", "jax_manual.zigzag", "zigzag ring attention, an early and a late chunk per device", *_ROWS
        ),
        _registered("jax-ulysses", "jax_manual.ulysses", "all-to-all between tokens and heads", *_ROWS),
        _registered("jax-automatic", "jax_automatic.transformer", "sharding annotations, partitioned by XLA", *_ROWS),
        _registered("torch-collectives", "torch_manual.sequence_parallel", "Megatron sequence parallelism"),
        _registered(
            "torch-ring_matmul",
            "torch_manual.ring_matmul",
            "the same, gathers overlapped with products in a ring: asynchronous tensor parallelism",
        ),
        _registered("torch-ring", "torch_manual.ring", "ring attention, contiguous shards", *_ROWS),
        _registered(
            "torch-zigzag", "torch_manual.zigzag", "zigzag ring attention, an early and a late chunk per device", *_ROWS
        ),
        _registered("torch-ulysses", "torch_manual.ulysses", "all-to-all between tokens and heads", *_ROWS),
        _registered(
            "torch-dtensor",
            "torch_dtensor.transformer",
            "torch's own SequenceParallel and Shard(1) layouts",
            "feedforward",
            *_ROWS,
        ),
        _registered(
            "torch-context_parallel", "torch_context_parallel.attention", "torch's own context_parallel", "attention"
        ),
    ),
    matrix=MATRIX,
    variations=variations(CONTRACTS),
    faults=FAULTS,
    mutated=MUTATED,
    not_applicable=NOT_APPLICABLE,
)
