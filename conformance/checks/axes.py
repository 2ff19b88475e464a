"""One mesh axis: does it divide anything, and should it?"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from conformance.evidence.comparison import CaseRun
from conformance.evidence.division import LITTLE, computed_alike, divided, does_all
from conformance.evidence.evidence import Division, Observations
from conformance.records.results import Cause

KEPT = ("parameters/", "optimizer/", "gradients/")  # to hold these in parts is a division, whatever is computed
FORWARD = 0.25  # of the work of a step, at least, is that of the forward pass: a third but for rounding and the update
HOLLOW = "the axis divides nothing"
WORK = "the work"
ALONE = (
    "One device computes everything: nothing that it computes with was placed on the mesh before, by a sharding, a "
    "device_put or a shard_map."
)


@dataclass(frozen=True, kw_only=True)
class Axis:
    """What was found of one axis. `known` is false where nothing shows whether it divides anything.

    `idle` is one on whose ranks all is done and held alike, which may be meant.
    """

    what: str
    known: bool = True
    idle: bool = False
    sentence: str = ""  # of the finding, or why it is not known
    purpose: str = ""  # of an axis that is replicated on purpose and is
    cause: Cause | None = None


def judged(case_run: CaseRun, axis: str) -> Axis:
    """Hold one axis of size above 1 to what the contract says of it."""
    what = f"axis {axis}"
    divides = _divides(case_run, axis)
    if divides is None:
        sentence = (
            f"Whether axis '{axis}' divides anything is not known: all that is seen lies whole on each of its ranks, "
            f"and what they compute is not seen: {case_run.evidence.why_unseen('work') or 'it was not asked for'}."
        )
        return Axis(what=what, known=False, sentence=sentence)
    if axis in case_run.contract.replicated_axes:
        return _on_purpose(what, axis, divides)
    division = computed_alike(case_run.evidence, case_run.case.mesh, axis)
    if not divides and division is not None and division.alone:
        return Axis(what=what, sentence=ALONE, cause=Cause(cause=HOLLOW, axis=axis, confidence=0.95))
    if not divides:
        cause = Cause(cause=HOLLOW, axis=axis, confidence=0.95)
        return Axis(what=what, idle=True, sentence=_hollow([axis]), cause=cause)
    if divides == WORK and not case_run.contract.held:
        return _shared_out(what, axis, case_run)
    if not case_run.contract.held and divides.startswith("'gradients/") and _does_all(case_run, axis):
        sentence = (
            f"Every rank along axis '{axis}' computes everything, and hands over a part of it ({divides}): that the "
            "axis divides any work, or what is kept, is not shown."
        )
        return Axis(what=what, known=False, sentence=sentence)
    return Axis(what=what)


def _shared_out(what: str, axis: str, case_run: CaseRun) -> Axis:
    """Nothing is kept in parts: then no rank may make as many products as one device would."""
    mesh, flops = case_run.case.mesh, case_run.evidence.flops or {}
    division, most = computed_alike(case_run.evidence, mesh, axis), max(flops.values(), default=0)
    whole = (case_run.reference.flops or math.inf) * mesh.size(axis) / mesh.devices
    idle = [min(flops.get(rank, most) for rank in group) <= LITTLE * most for group in mesh.groups(axis)]
    skipped = 0 if division is None else division.skipped_products
    if skipped >= whole or (most >= whole and all(idle)):
        sentence = f"One rank along axis '{axis}' makes all products, another one none: the axis divides no work."
        return Axis(what=what, sentence=sentence, cause=Cause(cause=HOLLOW, axis=axis, confidence=0.95))
    if most < whole:
        return Axis(what=what)
    sentence = (
        f"The busiest rank along axis '{axis}' makes as many products as one device would, and all of them keep "
        "everything: that the axis divides any work is not shown."
    )
    return Axis(what=what, known=False, sentence=sentence)


def together(axes: Sequence[Axis], promised: bool) -> list[Axis]:
    """The same, but that those that divide nothing share one sentence.

    promised   the contract says which axes are replicated. Somebody's own function has said nothing: where another
               axis does divide it, an idle one may be meant, and is said and not failed.
    """
    hollow = [str(axis.cause.axis) for axis in axes if axis.cause and axis.idle]
    sentence = _hollow(hollow)
    if promised or len(hollow) == len(axes):
        return [replace(axis, sentence=sentence) if axis.idle else axis for axis in axes]
    sentence = f"{sentence} Say replicated_axes={tuple(hollow)!r} if that is meant."
    return [replace(axis, known=False, sentence=sentence, cause=None) if axis.idle else axis for axis in axes]


def _hollow(axes: list[str]) -> str:
    named = " and ".join(f"'{axis}'" for axis in axes)
    who = f"Axis {named} divides" if len(axes) == 1 else f"Axes {named} divide"
    return f"{who} nothing: every rank along {'it' if len(axes) == 1 else 'them'} holds and computes everything."


def _on_purpose(what: str, axis: str, divides: str) -> Axis:
    if divides:
        sentence = f"Axis '{axis}' is said to be replicated, but it divides {divides}."
        return Axis(what=what, sentence=sentence)
    return Axis(what=what, purpose=f"Axis '{axis}' divides nothing, on purpose.")


def _divides(case_run: CaseRun, axis: str) -> str | None:
    """What an axis divides, in words; '' if nothing, None if that is not known."""
    mesh = case_run.case.mesh
    kept: Observations = {}
    seen: Observations = {}
    for observations in _moments(case_run):
        for name, observed in observations.items():
            (kept if name.startswith(KEPT) else seen).setdefault(name, observed)
    held, division = divided(kept, mesh, axis), computed_alike(case_run.evidence, mesh, axis)
    if division is not None and division.alone and not case_run.contract.held:
        return ""
    if held is not None:
        return f"'{held}'"
    if division is not None and division.own_tables:
        return "a table"
    if division is not None:
        return "" if _does_all(case_run, axis) or _masked(case_run, division) else WORK
    held = divided(seen, mesh, axis)
    return None if held is None else f"'{held}'"


def _does_all(case_run: CaseRun, axis: str) -> bool:
    mesh = case_run.case.mesh
    division, others = computed_alike(case_run.evidence, mesh, axis), mesh.devices // mesh.size(axis)
    return division is not None and does_all(division, case_run.reference.operations, others)


def _masked(case_run: CaseRun, division: Division) -> bool:
    """Every rank makes all products of the reference, for the most part on the same values; the rest is masked.

    So runs a pipeline of which every rank has all stages: what all but one compute is dropped, and so is its gradient.
    """
    flops, reference = case_run.evidence.flops, case_run.reference
    if not flops or not reference.flops or not reference.operations:
        return False
    return min(flops.values()) >= reference.flops and division.alike >= FORWARD * reference.operations


def _moments(case_run: CaseRun) -> Iterator[Observations]:
    yield case_run.evidence.initial
    yield from case_run.evidence.steps[:1]
