"""Collectives: what devices exchange, natively and by algorithms, with their gradients."""

from __future__ import annotations

from conformance.cases.suite import ImplementationEntry, Suite
from suites.collectives.contracts import CONTRACTS
from suites.collectives.faults.table import FAULTS
from suites.collectives.gradient_contracts import CONTRACTS as GRADIENTS
from suites.collectives.matrix import MATRIX, MUTATED

NATIVE = {
    "jax-shard_map": ("jax_manual.native:Native", "collectives of jax.lax under shard_map, differentiated by JAX"),
    "torch-collectives": ("torch_manual.native:Native", "torch.distributed in place, transposes stated"),
    "torch-functional": ("torch_functional.native:Native", "torch's functional collectives, differentiated by torch"),
}
ALGORITHMS = {
    "ring": ("Ring", "messages to the next device round a ring"),
    "tree": ("Tree", "messages along a binomial tree"),
    "halving": ("Halving", "recursive halving and doubling"),
    "hierarchical": ("Hierarchical", "rings inside nodes, and across them"),
    "direct": ("Direct", "messages to all devices at once"),
    "per_axis": ("PerAxis", "another algorithm on each axis"),
    "picked": ("Picked", "on each axis the algorithm that a model of its network predicts to be quickest"),
}
SUMMED = {  # how gradients are summed -> (module in either framework, prefix of its classes, summary)
    "one_by_one": ("data.{}_manual.data_parallel", "", "one all-reduce for each gradient, after the backward pass"),
    "bucketed": ("collectives.{}_manual.buckets", "", "one for each bucket, after the backward pass"),
    "overlapped": ("collectives.{}_manual.buckets", "Overlapped", "one for each bucket, inside the backward pass"),
}
SUMS_AND_GATHERS = tuple(
    contract
    for contract in CONTRACTS
    if contract.model.collective in ("all_reduce", "all_gather", "reduce_scatter")
    and contract.model.function in ("sum", "same")
)


def _native(name: str) -> ImplementationEntry:
    where, summary = NATIVE[name]
    classes = {contract.name: f"suites.collectives.{where}" for contract in CONTRACTS}
    return ImplementationEntry(name=name, framework=name.partition("-")[0], summary=summary, classes=classes)


def _algorithm(framework: str, name: str) -> ImplementationEntry:
    kind, summary = ALGORITHMS[name]
    path = f"suites.collectives.{framework}_manual.by_algorithm:{kind}"
    classes = {contract.name: path for contract in SUMS_AND_GATHERS}
    return ImplementationEntry(name=f"{framework}-{name}", framework=framework, summary=summary, classes=classes)


def _gradients(framework: str, name: str) -> ImplementationEntry:
    module, prefix, summary = SUMMED[name]
    kinds = {"linear": "Linear", "language_model": "LanguageModel"}
    path = f"suites.{module.format(framework)}:{prefix}"
    classes = {contract.name: f"{path}{kinds[contract.model.kind]}" for contract in GRADIENTS}
    return ImplementationEntry(name=f"{framework}-{name}", framework=framework, summary=summary, classes=classes)


SUITE = Suite(
    name="collectives",
    summary="Collectives: native ones and algorithms made of messages, bit for bit, with their gradients",
    contracts=CONTRACTS + GRADIENTS,
    implementations=(
        *map(_native, NATIVE),
        *(_algorithm(framework, name) for framework in ("jax", "torch") for name in ALGORITHMS),
        *(_gradients(framework, name) for framework in ("jax", "torch") for name in SUMMED),
    ),
    matrix=MATRIX,
    faults=FAULTS,
    mutated=MUTATED,
)
