"""Evidence: the step of a layout compiled in a process of its own, and whether it keeps the limits of the question."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from conformance.cases.plan_file import Evidence, PlanFile
from conformance.planner.estimate import Estimate
from conformance.planner.question import Question
from conformance.records.formatting import binary_bytes
from conformance.runner.scale import compiled
from conformance.scale.record import ScaleRecord

ROUNDED = 1.02  # a compiled figure that is larger by less is no miss


@dataclass(frozen=True, kw_only=True)
class Tried:
    """An estimate and what the compiler said of it.

    why   why it is not returned, one sentence; empty where it is
    miss  temporaries compiled / predicted; 1 where they are not known
    """

    estimate: Estimate
    evidence: Evidence
    why: str
    miss: float

    @property
    def holds(self) -> bool:
        return not self.why


Compiler = Callable[[Question, Estimate], Tried]


def compile_layout(question: Question, estimate: Estimate) -> Tried:
    """Through the same door as `shardproof scale`: a plan file, a worker process, a record."""
    with tempfile.TemporaryDirectory(prefix="shardproof-plan-") as folder:
        path = Path(folder) / "candidate.json"
        path.write_text(plan_file(question, estimate).model_dump_json(), encoding="utf-8")
        record = compiled(str(path), estimate.layout.mesh, question.chip, "jax")
    return judged(question, estimate, record)


def judged(question: Question, estimate: Estimate, record: ScaleRecord) -> Tried:
    """Whether the compiled program keeps the limits; at the level partitioned memory is as it was predicted."""
    evidence = evidence_of(record)
    temporaries, predicted = evidence.temporary_bytes, estimate.footprint.temporary_bytes
    miss = temporaries / predicted if temporaries and predicted else 1.0
    return Tried(estimate=estimate, evidence=evidence, why=_why(question, evidence), miss=miss)


def _why(question: Question, evidence: Evidence) -> str:
    needed, most = evidence.needed_bytes, question.max_all_reduce
    if needed is not None and needed > question.usable_bytes:
        return f"compiled, it needs {binary_bytes(needed)} of {binary_bytes(question.usable_bytes)}"
    if most is not None and evidence.largest_all_reduce > most:
        return f"compiled, its largest all-reduce is {binary_bytes(evidence.largest_all_reduce)}"
    return ""


def evidence_of(record: ScaleRecord) -> Evidence:
    """What of a record a plan file keeps. Time is that of the level nearest to the chip."""
    roofline = record.roofline
    return Evidence(
        level=record.level,
        parameter_bytes=record.parameter_bytes,
        optimizer_bytes=record.optimizer_bytes,
        temporary_bytes=record.temporary_bytes,
        needed_bytes=record.needed_bytes,
        fits=record.fits,
        compute_seconds=roofline.compute_seconds if roofline else None,
        communication_seconds=dict(roofline.communication_seconds) if roofline else {},
        communication_bytes=record.wire_bytes(),
        largest_all_reduce=record.largest_all_reduce,
        findings=tuple(finding.sentence for finding in record.findings),
    )


def plan_file(
    question: Question, estimate: Estimate, evidence: Evidence | None = None, why: tuple[str, ...] = ()
) -> PlanFile:
    """The plan as it is kept."""
    training, layout, family = question.training, estimate.layout, question.family
    return PlanFile(
        asked=question.asked,
        family=family.name,
        model=family.fields(training.model),
        parameters=family.parameters(training.model),
        parameters_dtype="bfloat16" if training.parameters == "bfloat16" else "float32",
        rows=training.rows,
        length=training.length,
        devices=question.devices,
        chip=question.chip.model_dump(),
        objective=question.objective,
        max_all_reduce=question.max_all_reduce,
        mesh=str(layout.mesh),
        microbatches=layout.microbatches,
        recompute=layout.recompute,
        schedule=layout.schedule,
        proof=family.plan("proof", training, layout).proof,
        predicted=estimate.predicted(),
        evidence=evidence,
        why=why,
    ).sealed()
