"""`memory`: no rank holds more bytes of the state, the gradients or the batch than the declared plan implies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.checks.check import LATER_STEPS, Check
from conformance.checks.memory_plan import Held, figures, held_tensors
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import StateBytes
from conformance.evidence.held import divided_over, elements, replicated_over, shares, width
from conformance.records.formatting import binary_bytes
from conformance.records.results import LESS, Cause, CheckResult, Worst

REPLICATED = "replicated where its placement divides it"
TOO_WIDE = "kept in a wider dtype than the recipe says"
TWICE = "parameters kept twice"
GROWN = "placed in parts and kept whole"
NOT_DONATED = "the state is not donated"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was compared; where it is beyond the plan, a sentence, by how many bytes on the rank that has most."""

    what: str
    sentence: str = ""
    beyond: int = 0
    held: int = 0
    ranks: tuple[int, ...] = ()
    cause: Cause | None = None


class Memory(Check):
    name = "memory"
    of_values = False
    needs = frozenset({LATER_STEPS})
    rule = (
        "Bytes per device of parameters, of gradients as they are reported, of every optimizer slot and of the batch "
        "are those of the declared placements and of the dtypes of the recipe: what is divided over an axis of size k "
        "takes ceil(1/k) on each device. No parameter lies in the state twice, nothing grows from step to step, and "
        "a state that is said to be donated is taken over whole."
    )

    def applies(self, case_run: CaseRun) -> bool:
        return case_run.contract.held

    def judge(self, case_run: CaseRun) -> CheckResult:
        tensors = list(held_tensors(case_run))
        findings = [*_planned(case_run, tensors), *_grown(case_run), *_of_state(case_run)]
        beyond = sorted((finding for finding in findings if finding.sentence), key=lambda finding: -finding.beyond)
        if not findings:
            return self.unsupported("No tensor was seen that lies on a device.")
        undeclared = case_run.evidence.declarations.layout is None
        return self.result(
            compared=len(findings),
            failures=[_together(beyond)] if beyond else [],
            first=beyond[0].what if beyond else None,
            ranks=beyond[0].ranks if beyond else (),
            worst=_worst(beyond),
            not_held=_not_declared(case_run) if undeclared else _not_donated(case_run),
            diagnosis=_causes(beyond),
            memory=figures(case_run, tensors),
        )


def _planned(case_run: CaseRun, tensors: Sequence[Held]) -> Iterator[Finding]:
    """Every tensor whose placements are declared, at the start and at the end; the first finding of each counts."""
    failed: set[str] = set()
    for held in tensors:
        if held.placements is not None and held.observed.stored_bytes and held.name not in failed:
            too_much = _beyond(held, case_run) or _too_wide(held)
            failed |= {held.name} if too_much else set()
            yield too_much or Finding(what=held.label)


def _beyond(held: Held, case_run: CaseRun) -> Finding | None:
    """Where a rank holds more elements than its share."""
    assert held.placements is not None
    mesh, observed = case_run.case.mesh, held.observed
    share, stored, each = shares(observed, held.placements, mesh), elements(observed), width(observed.dtype)
    rank = max(stored, key=lambda rank: stored[rank] - share[rank])
    if stored[rank] <= share[rank]:
        return None
    axes = divided_over(held.placements, mesh)
    whole = [axis for axis in axes if replicated_over(observed, axis, mesh)]
    takes, given = stored[rank] * each, share[rank] * each
    return Finding(
        what=held.label,
        sentence=_replicated(held, whole, len(whole) == len(axes), (takes, given, rank), case_run),
        beyond=takes - given,
        held=takes,
        ranks=tuple(rank for rank in sorted(stored) if stored[rank] > share[rank]),
        cause=Cause(cause=REPLICATED, axis=whole[0] if whole else None, confidence=0.95, basis=held.label),
    )


def _replicated(held: Held, axes: list[str], everywhere: bool, seen: tuple[int, int, int], case_run: CaseRun) -> str:
    takes, given, rank = seen
    plan = f"where {held.plan} gives each {binary_bytes(given)}"
    where = " and ".join(axes)
    if not axes:
        return f"'{held.name}' takes {binary_bytes(takes)} on rank {rank}, {plan}."
    if not everywhere:
        return f"'{held.name}' is not divided over {where}: each rank holds {binary_bytes(takes)}, {plan}."
    copies = 1
    for axis in axes:
        copies *= case_run.case.mesh.size(axis)
    return f"'{held.name}' is whole on every rank of {where}: {copies} x {binary_bytes(takes)}, {plan}."


def _too_wide(held: Held) -> Finding | None:
    """Where elements take more bytes than in the dtype of the recipe."""
    observed, planned = held.observed, held.dtype
    if planned is None or width(observed.dtype) <= width(planned):
        return None
    rank = max(observed.stored_bytes, key=lambda rank: observed.stored_bytes[rank])
    takes = observed.stored_bytes[rank]
    given = takes * width(planned) // width(observed.dtype)
    return Finding(
        what=held.label,
        sentence=f"'{held.name}' is kept in {observed.dtype}, {binary_bytes(takes)} on rank {rank}, where the recipe "
        f"keeps it in {planned}: {binary_bytes(given)}.",
        beyond=takes - given,
        held=takes,
        ranks=tuple(sorted(rank for rank, held in observed.stored_bytes.items() if held)),
        cause=Cause(cause=TOO_WIDE, axis=None, confidence=0.95, basis=held.label),
    )


def _grown(case_run: CaseRun) -> Iterator[Finding]:
    """What nobody has declared must at least not take more after the last step than when it was placed."""
    declared = case_run.evidence.declarations.layout or {}
    for name, after in case_run.evidence.steps[-1].items():
        before = case_run.evidence.initial.get(name)
        if before is None or name.split("/", 2)[-1] in declared or not before.stored_bytes:
            continue
        rank = max(after.stored_bytes, key=lambda rank: after.stored_bytes[rank], default=0)
        now, then = after.stored_bytes.get(rank, 0), max(before.stored_bytes.values())
        label, sentence = f"last step: {name}", ""
        if now > then:
            sentence = (
                f"'{name}' takes {binary_bytes(now)} on rank {rank} after the last step; "
                f"it was placed in {binary_bytes(then)}."
            )
        cause = Cause(cause=GROWN, axis=None, confidence=0.9, basis=label) if sentence else None
        yield Finding(what=label, sentence=sentence, beyond=max(now - then, 0), held=now, ranks=(rank,), cause=cause)


def _of_state(case_run: CaseRun) -> Iterator[Finding]:
    state = case_run.evidence.state
    if state is None:
        return
    yield Finding(what="state")
    for copy in state.copies:
        rank = max(copy.bytes, key=lambda rank: copy.bytes[rank])
        yield Finding(
            what=f"state: {copy.parameter}",
            sentence=f"The state holds the bits of '{copy.parameter}' more often than it hands them over, at "
            f"{copy.path}: {binary_bytes(copy.bytes[rank])} too much on rank {rank}.",
            beyond=copy.bytes[rank],
            held=state.held[rank],
            ranks=tuple(sorted(copy.bytes)),
            cause=Cause(cause=TWICE, axis=None, confidence=0.95, basis=copy.path),
        )
    if case_run.evidence.declarations.donates and case_run.case.mutation is None:  # a mutant is another program
        yield from () if case_run.case.devices == "single" else (_donated(state),)


def _not_donated(case_run: CaseRun) -> str:
    if case_run.evidence.declarations.donates and case_run.case.devices == "single":
        return f"{LESS}donation: one device in place of a mesh takes over nothing of the state of all ranks."
    return ""


def _donated(state: StateBytes) -> Finding:
    """Whether the first step has taken over the memory of all that it was given."""
    kept = {rank: given - state.reused.get(rank, 0) for rank, given in state.before.items()}
    rank = max(kept, key=lambda rank: kept[rank])
    sentence = (
        f"The step is said to take over its state, but {binary_bytes(kept[rank])} of "
        f"{binary_bytes(state.before[rank])} on rank {rank} stay beside the new state."
    )
    cause = Cause(cause=NOT_DONATED, axis=None, confidence=0.95, basis="the memory of the state before and after")
    return Finding(
        what="state: donation",
        sentence=sentence if kept[rank] else "",
        beyond=kept[rank],
        held=state.before[rank],
        ranks=tuple(sorted(rank for rank, left in kept.items() if left)),
        cause=cause if kept[rank] else None,
    )


def _together(beyond: Sequence[Finding]) -> str:
    """The largest finding, and how many more there are."""
    first, *others = beyond
    if not others:
        return first.sentence
    more = f"{len(others)} more finding{'s' if len(others) > 1 else ''}"
    total = binary_bytes(sum(finding.beyond for finding in beyond))
    return f"{first.sentence} With {more}, up to {total} too much on a device."


def _worst(beyond: Sequence[Finding]) -> Worst | None:
    if not beyond:
        return None
    return Worst(tensor=beyond[0].what, error=float(beyond[0].held), bound=float(beyond[0].held - beyond[0].beyond))


def _causes(beyond: Sequence[Finding]) -> tuple[Cause, ...]:
    """Each cause once, that of the largest finding first."""
    causes = [finding.cause for finding in beyond if finding.cause is not None]
    return tuple({(cause.cause, cause.axis): cause for cause in reversed(causes)}.values())[::-1]


def _not_declared(case_run: CaseRun) -> str:
    """Without a plan a tensor may be whole on purpose, or be gathered to be shown: it is said, and not failed."""
    held = "The implementation does not declare how its tensors lie; only that they do not grow was held."
    for tensor in held_tensors(case_run):
        parameter = case_run.evidence.steps[-1].get(f"parameters/{tensor.parameter}")
        if parameter is None or tensor.observed is parameter or parameter.shape != tensor.observed.shape:
            continue
        own = max(elements(tensor.observed).values(), default=0)
        part = max(elements(parameter).values(), default=own)
        if own > part:
            return (
                f"{held} '{tensor.name}' takes {own:,} elements on a device, where 'parameters/{tensor.parameter}' "
                f"takes {part:,}."
            )
    return held
