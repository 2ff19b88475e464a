"""Layouts with stages: which can be, which are compiled, how long their ranks wait, and the numbers of their ends.

The first rank has the embedding and the most microbatches live, the last one the head: the busier of these two counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from conformance.cases.plannable import Layout
from conformance.contract.budget import Allowance
from conformance.contract.contract import Contract
from suites.hybrid.budget_stages import StageSizes, chunks, distinct, messages, of_stage, parts
from suites.pipeline.expected_bubble import bubble_share

SCHEDULES = ("1f1b", "gpipe", "interleaved")
PROGRAMS = {"1f1b": "LanguageModel", "gpipe": "GPipe"}  # of `suites.hybrid.jax_automatic.pipelined`


def refused(layers: int, layout: Layout) -> str:
    """Why a schedule cannot be; empty where it can, or where there are no stages."""
    ranks, schedule = layout.mesh.size("pipeline"), layout.schedule
    if ranks == 1:
        return ""
    if layers < ranks * chunks(schedule):
        return f"{layers} layers are fewer than the stages of {schedule}"
    if layout.microbatches == 1:
        return "one microbatch keeps one stage busy and the others waiting"
    if schedule == "interleaved" and layout.microbatches % ranks:
        return "interleaved stages pass microbatches in rounds of as many as there are ranks"
    return ""


def uncompiled(layout: Layout) -> str:
    """Why no program of a layout is compiled."""
    if layout.mesh.size("pipeline") == 1:
        return ""
    if layout.schedule not in PROGRAMS:
        return "no program has ranks with several stages"
    if layout.recompute != "layer":
        return "the program of a stage keeps what enters its layers, and computes each of them again"
    return ""


def bubble(layout: Layout) -> float:
    """Share of a step in which a rank waits."""
    ranks = layout.mesh.size("pipeline")
    return (bubble_share(layout.schedule, ranks, layout.microbatches) or 0.0) if ranks > 1 else 0.0


def ends(contract: Contract, layout: Layout, dtype: str) -> list[StageSizes]:
    """The numbers of both ends of the pipeline."""
    every = parts(contract.model.layers, layout.mesh.size("pipeline"))
    return [StageSizes(contract, layout.mesh, dtype, part, layout.schedule) for part in (every[0], every[-1])]


def compiled(contract: Contract, layout: Layout, dtype: str) -> list[StageSizes]:
    """The numbers of every rank of which a program is compiled."""
    every = distinct(contract.model.layers, layout.mesh.size("pipeline"))
    return [StageSizes(contract, layout.mesh, dtype, part, layout.schedule) for part, _ in every]


def budget(contract: Contract, layout: Layout, dtype: str) -> Sequence[Allowance]:
    """What the last rank, which has the head, may send, and the messages of the rank that has most of them."""
    every = compiled(contract, layout, dtype)
    sent = max((list(messages(sizes)) for sizes in every), key=lambda sent: sum(each.calls for each in sent))
    return (*of_stage(every[-1]), *sent)
