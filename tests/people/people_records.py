"""Made-up results of every kind, for the tests of what people see."""

from __future__ import annotations

import math
import random
from pathlib import Path

from conformance.cases.case import Case
from conformance.cases.selection import Selection, select
from conformance.contract.implementation import Framework
from conformance.contract.mesh import Mesh
from conformance.records.recorder import Recorder
from conformance.records.records import CaseRecord, RunRecord
from conformance.records.results import CaseResult, Cause, CheckResult, Worst

MESHES = ("tensor=2", "tensor=3", "tensor=4", "data=2,tensor=4", "data=2,tensor=4@shuffled", "sequence=2,tensor=2")
CONTRACTS = ("column_linear", "row_linear", "vocabulary", "attention_gqa_headnorm", "mlp", "layer", "language_model")
IMPLEMENTATIONS = ("jax-shard_map", "jax-automatic", "torch-collectives", "torch-dtensor")
UNDECLARED = "The implementation does not declare what it communicates."
BOUNDS = {"float64": 8.0, "float32": 4.0, "bfloat16": 4.0}
ONE = ("--contract", "tensor/mlp", "--implementation", "jax-shard_map", "--mesh", "tensor=2", "--dtype", "float64")


def case(
    contract: str = "tensor/mlp",
    implementation: str = "jax-shard_map",
    mesh: str = "data=2,tensor=4",
    dtype: str = "float64",
) -> Case:
    return Case(contract=contract, implementation=implementation, mesh=Mesh.parse(mesh), dtype=dtype)


def one_case() -> Case:
    """The case that the options ONE select."""
    return select(Selection(contracts=(ONE[1],), implementation=ONE[3], mesh=ONE[5], dtype=ONE[7]))[0]


def framework_of(of: Case) -> Framework:
    """Of a registered implementation by its name; a file is made up to be in JAX."""
    return "torch" if of.implementation.startswith("torch-") else "jax"


def passing(of: Case, ratio: float = 0.3, seconds: float = 0.4) -> CaseResult:
    worst = Worst(tensor="step 1: gradients/up.weight rows 0-8", error=ratio * 1e-15, bound=1e-15)
    name = "logic" if of.dtype == "float64" else "numerics"
    ratios = {"outputs": ratio * 0.6, "gradients": ratio, "loss": ratio * 0.1}
    later = Worst(tensor="step 3: updates/up.weight", error=ratio * 0.8e-15, bound=1e-15)
    return CaseResult(
        case=of,
        framework=framework_of(of),
        verdict="pass",
        checks=(
            CheckResult(check="census", verdict="pass", compared=61),
            CheckResult(check=name, verdict="pass", compared=40, worst=worst, ratios=ratios),
            CheckResult(check="replicas", verdict="pass", compared=920),
            CheckResult(check="trajectory", verdict="pass", compared=80, worst=later, ratios={"updates": ratio * 0.8}),
            CheckResult(
                check="communication", verdict="unsupported", compared=0, detail=UNDECLARED, not_held=UNDECLARED
            ),
        ),
        seconds=seconds,
        phases={"place": 0.02, "compile": seconds * 0.6, "step": seconds * 0.2, "collect": 0.01},
    )


def failing(of: Case, ratio: float = 4e5) -> CaseResult:
    causes = (
        Cause(cause="reduction missing: the copies are partial sums", axis="tensor", confidence=0.97),
        Cause(cause="wrong on positions [1, 3] along the axis only", axis="tensor", confidence=0.41),
        Cause(cause="narrower dtype than declared", axis=None, confidence=0.08),
    )
    first = "step 1: gradients/layers.0.attention.query_norm.scale"
    worst = Worst(tensor=first, error=ratio * 1e-15, bound=1e-15)
    detail = (
        f"{first} is off by {ratio * 1e-15:.3g}; rounding explains 1.25e-16, 3 of 40 tensors are beyond 8 times that."
    )
    ranks = tuple(range(of.mesh.devices))[1::2]
    logic = CheckResult(check="logic", verdict="fail", compared=40, worst=worst, first=first, ranks=ranks,
                        detail=detail, ratios={"outputs": 0.2, "gradients": ratio}, diagnosis=causes)  # fmt: skip
    copies = f"{first} differs between rank 0 and rank 1."
    replicas = CheckResult(check="replicas", verdict="fail", compared=920, first=first, ranks=(0, 1), detail=copies,
                           diagnosis=causes)  # fmt: skip
    census = CheckResult(check="census", verdict="pass", compared=61)
    return CaseResult(case=of, framework=framework_of(of), verdict="fail",
                      checks=(census, logic, replicas), seconds=0.8, phases={"step": 0.3})  # fmt: skip


def broken(of: Case, verdict: str) -> CaseResult:
    reasons = {
        "hang": "No rank made progress for 20 seconds: rank 0 waits in all_reduce, rank 3 in all_gather.",
        "crash": "Rank 2 ended with signal 6 (SIGABRT).",
        "error": "ValueError on rank 1 only: operands could not be broadcast together.",
        "unsupported": "8 heads cannot be divided over tensor=3.",
    }
    stack = (
        ""
        if verdict == "unsupported"
        else (
            'File "mine.py", line 12, in step\n    return all_reduce(x, group)  # <- & "here"\n' * 4
            + "\x1b[31mlast\x1b[0m"
        )
    )
    return CaseResult(case=of, framework=framework_of(of), verdict=verdict, reason=reasons[verdict],
                      stack=stack, output="rank 0: started\nrank 3: started", seconds=20.4)  # fmt: skip


def everything() -> list[CaseResult]:
    """Passes in every shade, a failure, and every other verdict; long names; an infinite error."""
    draw = random.Random(5)
    cases = [
        case(f"tensor/{contract}", implementation, mesh, dtype)
        for implementation in IMPLEMENTATIONS
        for dtype in BOUNDS
        for contract in CONTRACTS
        for mesh in MESHES
        if draw.random() < 0.8
    ]
    results = [passing(each, min(0.97, math.exp(draw.gauss(-1.4, 0.5))), draw.uniform(0.1, 1.5)) for each in cases]
    refused = Case(contract="tensor/attention_mha_fused", implementation="jax-shard_map", mesh=Mesh.parse("tensor=3"),
                   dtype="float64", expect="unsupported")  # fmt: skip
    results += [
        failing(case("tensor/attention_gqa_headnorm", mesh="data=3,tensor=2")),
        failing(case(mesh="tensor=8"), ratio=math.inf),
        failing(case("tensor/vocabulary", "torch-dtensor", "tensor=8"), ratio=3.2),
        broken(case("tensor/layer", "torch-collectives", "tensor=8"), "hang"),
        broken(case("tensor/language_model", "torch-dtensor", "tensor=8"), "crash"),
        broken(case("tensor/mlp", "./somewhere/quite/deep/my own implementation.py:MyTensorParallelMLP"), "error"),
        broken(refused, "unsupported"),
    ]
    return results


def run_record(**fields: object) -> RunRecord:
    given = {
        "version": "0.1.0",
        "hash": "0" * 64,
        "command": ["shardproof", "run"],
        "started": "2025-11-21T09:30:00+00:00",
        "profile": "core",
        "packages": {"jax": "0.10.2", "torch": None},
        "seeds": [0],
        "seconds": 83.0,
        "machine": {"platform": "Linux", "python": "3.11.7", "cpu_count": 2, "memory_bytes": 2**34},
    }
    return RunRecord.model_validate(given | fields)


def write(directory: Path, results: list[CaseResult], **fields: object) -> Path:
    """A results directory with these results."""
    from conformance.records.reproduce import reproduce

    recorder = Recorder(directory, run_record(planned=len(results), **fields))
    for result in results:
        recorder.append(CaseRecord.of(result, reproduce(result.case)))
    recorder.close(finished="2025-11-21T09:31:23+00:00", overhead=0.094)
    return directory
