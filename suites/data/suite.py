"""Data parallelism and sharded state: rows, and parameters, gradients and optimizer slots, sharded over devices."""

from __future__ import annotations

from dataclasses import replace

from conformance.cases.suite import ImplementationEntry, Suite
from conformance.contract.contract import Contract
from suites.data.contracts import CONTRACTS
from suites.data.faults.table import FAULTS, NOT_APPLICABLE
from suites.data.matrix import MATRIX, MUTATED
from suites.training.variations import variations


def _registered(name: str, module: str, summary: str) -> ImplementationEntry:
    written = [contract for contract in CONTRACTS if not (contract.name == EVALUATION and name == "jax-automatic")]
    classes = {contract.name: f"suites.data.{module}:{_class_of(contract)}" for contract in written}
    return ImplementationEntry(name=name, framework=name.partition("-")[0], summary=summary, classes=classes)


def _of(names: tuple[str, ...], name: str, module: str, summary: str) -> ImplementationEntry:
    """An implementation that is written for some contracts alone."""
    entry = _registered(name, module, summary)
    return replace(entry, classes={contract: entry.classes[contract] for contract in names})


def _class_of(contract: Contract) -> str:
    return "Evaluated" if contract.name == EVALUATION else _CLASSES[contract.model.kind]


LAYERED = ("data/language_model_sgd", "data/opposed")  # several layers: one can be gathered during another
EVALUATION = "data/evaluation"  # with annotations there is nothing to test: XLA handles uneven rows
_CLASSES = {"linear": "Linear", "language_model": "LanguageModel", "contrastive": "Contrastive"}
_WAYS = {
    "data_parallel": "state replicated, gradients all-reduced",
    "zero1": "optimizer slots sharded over fsdp",
    "zero2": "gradients and optimizer slots sharded over fsdp",
    "zero3": "parameters, gradients and optimizer slots sharded over fsdp, gathered layer by layer",
}

SUITE = Suite(
    name="data",
    summary="Data parallelism, ZeRO and HSDP: rows and state split over the data and fsdp axes",
    contracts=CONTRACTS,
    implementations=(
        *(_registered(f"jax-{way}", f"jax_manual.{way}", what) for way, what in _WAYS.items()),
        _registered("jax-automatic", "jax_automatic.sharded", "sharding annotations, partitioned by XLA"),
        *(_registered(f"torch-{way}", f"torch_manual.{way}", what) for way, what in _WAYS.items()),
        _registered("torch-fsdp2", "torch_fsdp2.training", "torch's own fully_shard"),
        _of(LAYERED, "torch-fsdp2-prefetch", "torch_fsdp2.prefetched", "fully_shard, gathered a layer ahead"),
    ),
    matrix=MATRIX,
    variations=variations(CONTRACTS),
    faults=FAULTS,
    mutated=MUTATED,
    not_applicable=NOT_APPLICABLE,
)
