"""Pipeline parallelism: layers on the ranks of the `pipeline` axis, microbatches on their way through them."""

from __future__ import annotations

from conformance.cases.suite import ImplementationEntry, Suite
from suites.pipeline.contracts import CONTRACTS
from suites.pipeline.faults.table import FAULTS, NOT_APPLICABLE
from suites.pipeline.matrix import MATRIX, MUTATED
from suites.training.variations import variations

_CLASSES = {"perceptron": "Perceptron", "convolution": "Convolution", "language_model": "LanguageModel"}
_SCHEDULES = {
    "gpipe": ("gpipe", "all forward passes, then all backward passes"),
    "1f1b": ("one_f_one_b", "one forward and one backward pass in turns"),
    "interleaved": ("interleaved", "two chunks of the model on every rank"),
    "zb-h1": ("zero_bubble", "weight gradients deferred"),
    "zbv": ("zbv", "two chunks on every rank, laid out as a V, weight gradients deferred"),
}
_TORCH_SCHEDULES = {
    "gpipe": ("gpipe", "torch's own ScheduleGPipe"),
    "1f1b": ("one_f_one_b", "torch's own Schedule1F1B"),
    "interleaved": ("interleaved", "torch's own ScheduleInterleaved1F1B"),
    "looped-bfs": ("looped_bfs", "torch's own ScheduleLoopedBFS"),
    "interleaved-zb": ("interleaved_zb", "torch's own ScheduleInterleavedZeroBubble"),
    "zbv": ("zbv", "torch's own ScheduleZBVZeroBubble"),
    "dualpipev": ("dualpipev", "torch's own ScheduleDualPipeV"),
}


def _registered(framework: str, schedule: str) -> ImplementationEntry:
    module, summary = _SCHEDULES[schedule]
    classes = _classes(f"suites.pipeline.{framework}_manual.{module}")
    return ImplementationEntry(name=f"{framework}-{schedule}", framework=framework, summary=summary, classes=classes)


def _torch_pipelining(schedule: str) -> ImplementationEntry:
    module, summary = _TORCH_SCHEDULES[schedule]
    classes = _classes(f"suites.pipeline.torch_pipelining.{module}")
    return ImplementationEntry(
        name=f"torch-pipelining-{schedule}", framework="torch", summary=summary, classes=classes, declares=False
    )


def _classes(path: str) -> dict[str, str]:
    return {contract.name: f"{path}:{_CLASSES[contract.model.kind]}" for contract in CONTRACTS}


SUITE = Suite(
    name="pipeline",
    summary="Pipeline parallelism: layers split over the pipeline axis, under schedules that are data",
    contracts=CONTRACTS,
    implementations=(
        *(_registered(framework, schedule) for framework in ("jax", "torch") for schedule in _SCHEDULES),
        *map(_torch_pipelining, _TORCH_SCHEDULES),
    ),
    matrix=MATRIX,
    variations=variations(CONTRACTS),
    faults=FAULTS,
    mutated=MUTATED,
    not_applicable=NOT_APPLICABLE,
)
