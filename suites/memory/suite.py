"""Policies of memory: activation checkpointing, spill to host memory, donation of the state."""

from __future__ import annotations

from conformance.cases.suite import ImplementationEntry, Suite
from suites.memory.contracts import CONTRACTS
from suites.memory.faults.table import FAULTS, NOT_APPLICABLE
from suites.memory.matrix import MATRIX
from suites.training.variations import variations


def _registered(name: str, folder: str, summary: str) -> ImplementationEntry:
    classes = {contract.name: f"suites.memory.{folder}.model:LanguageModel" for contract in CONTRACTS}
    return ImplementationEntry(name=name, framework=name.partition("-")[0], summary=summary, classes=classes)


# No collective is mutated here: they are those of tensor parallelism, and every one of them is mutated there.
SUITE = Suite(
    name="memory",
    summary="Policies of memory: what is computed again, waits in host memory, or is taken over in place",
    contracts=CONTRACTS,
    implementations=(
        _registered("jax-shard_map", "jax_manual", "jax.checkpoint with policies, offloading, donated state"),
        _registered(
            "torch-collectives", "torch_manual", "torch.utils.checkpoint, hooks on saved tensors, updates in place"
        ),
    ),
    matrix=MATRIX,
    variations=variations(CONTRACTS),
    faults=FAULTS,
    not_applicable=NOT_APPLICABLE,
)
