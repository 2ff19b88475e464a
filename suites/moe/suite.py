"""Expert parallelism: the experts of a mixture on different devices, tokens sent to them and back."""

from __future__ import annotations

from conformance.cases.suite import ImplementationEntry, Suite
from suites.moe.contracts import CONTRACTS
from suites.moe.faults.table import FAULTS, NOT_APPLICABLE
from suites.moe.matrix import MATRIX, MUTATED
from suites.training.variations import variations

_CLASSES = {"moe": "Mixture", "layer": "Layer", "language_model": "LanguageModel"}  # by the kind of the model


def _registered(name: str, module: str, summary: str) -> ImplementationEntry:
    classes = {contract.name: f"suites.moe.{module}:{_CLASSES[contract.model.kind]}" for contract in CONTRACTS}
    return ImplementationEntry(name=name, framework=name.partition("-")[0], summary=summary, classes=classes)


SUITE = Suite(
    name="moe",
    summary="Expert parallelism: experts split over the expert axis, tokens exchanged by all-to-all",
    contracts=CONTRACTS,
    implementations=(
        _registered("jax-capacity", "jax_manual.capacity", "all-to-all of buffers with a place for every token"),
        _registered("jax-ragged", "jax_manual.ragged", "all-to-all of sorted tokens, grouped products of uneven size"),
        _registered("torch-exchange", "torch_manual.exchange", "all_to_all_single with uneven splits"),
    ),
    matrix=MATRIX,
    variations=variations(CONTRACTS),
    faults=FAULTS,
    mutated=MUTATED,
    not_applicable=NOT_APPLICABLE,
)
