"""Hybrid parallelism: several axes at once, composed of the parts of the other suites."""

from __future__ import annotations

from conformance.cases.suite import ImplementationEntry, Suite
from suites.hybrid.contracts import CONTRACTS
from suites.hybrid.faults.table import FAULTS, NOT_APPLICABLE
from suites.hybrid.matrix import MATRIX
from suites.hybrid.matrix_scanned import SCANNED
from suites.hybrid.plans import PLANS
from suites.planning.families import FAMILIES
from suites.training.variations import variations

_MIXTURES = ("mixture", "routed", "saved")
_STAGED = ("staged_mixture", "staged_saved")
_DENSE = ("staged_context", "staged_context_saved")
_ALIKE = ("scanned", "scanned_slices")
_THREE = ("embedding_first", "deep", "large")
_CLASSES = {"embedding_first": "EmbeddingFirst", "large": "GPipe"}


def _registered(name: str, module: str, summary: str, *contracts: str) -> ImplementationEntry:
    path = f"suites.hybrid.{module}"
    classes = {f"hybrid/{contract}": f"{path}:{_CLASSES.get(contract, 'LanguageModel')}" for contract in contracts}
    return ImplementationEntry(name=name, framework=name.partition("-")[0], summary=summary, classes=classes)


def _staged(schedule: str, name: str) -> ImplementationEntry:
    return ImplementationEntry(
        name=f"jax-staged-{schedule}",
        framework="jax",
        summary=f"annotated stages under a scan, a program for each rank, {schedule}",
        classes={"hybrid/scanned_stages": f"suites.hybrid.jax_automatic.pipelined:{name}"},
        declares=False,
    )


SUITE = Suite(
    name="hybrid",
    summary="Hybrid parallelism: data, fsdp, expert, sequence, tensor and pipeline axes at once",
    contracts=CONTRACTS,
    implementations=(
        _registered("jax-three_axes", "jax_manual.three_axes", "stages sharded over a tensor axis", *_THREE),
        _registered("torch-three_axes", "torch_manual.three_axes", "stages sharded over a tensor axis", *_THREE),
        _registered("jax-five_axes-capacity", "jax_manual.five_axes_capacity", "all-to-all of buffers", *_MIXTURES),
        _registered("jax-five_axes-ragged", "jax_manual.five_axes_ragged", "all-to-all of sorted tokens", *_MIXTURES),
        _registered("torch-five_axes", "torch_manual.five_axes", "all_to_all_single with uneven splits", *_MIXTURES),
        _registered("jax-scanned", "jax_automatic.stacked", "annotated layers under a scan", *_ALIKE),
        _staged("1f1b", "LanguageModel"),
        _staged("gpipe", "GPipe"),
        _registered("torch-fsdp2_tensor", "torch_fsdp2.training", "fully_shard and parallelize_module", "scanned"),
        _registered(
            "jax-scanned_mixture", "jax_automatic.mixture", "annotated mixtures under a scan", "scanned_mixture"
        ),
        _registered("jax-pipelined", "jax_manual.pipelined_mixture", "1F1B, all-to-all of buffers", *_STAGED),
        _registered("torch-pipelined", "torch_manual.pipelined_mixture", "1F1B, uneven splits", *_STAGED),
        _registered("jax-pipelined_context", "jax_manual.pipelined_context", "1F1B, Ulysses", *_DENSE),
        _registered("torch-pipelined_context", "torch_manual.pipelined_context", "1F1B, ring", *_DENSE),
        _registered("jax-pipelined_zero3", "jax_manual.pipelined_zero3", "1F1B, sharded state", *_DENSE),
        _registered("torch-pipelined_zero1", "torch_manual.pipelined_zero1", "1F1B, sharded slots", *_DENSE),
    ),
    matrix=MATRIX + SCANNED,
    variations=variations(CONTRACTS),
    faults=FAULTS,
    not_applicable=NOT_APPLICABLE,
    plans=PLANS,
    families=FAMILIES,
)
