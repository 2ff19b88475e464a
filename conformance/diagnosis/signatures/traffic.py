"""Signatures of communication: the trace shows a collective that is missing, repeated, or over another axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from conformance.checks.communication import differing_axes
from conformance.checks.differences import Amount, Key
from conformance.diagnosis.signatures.traffic_dtypes import in_another_dtype
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause


@dataclass(frozen=True, kw_only=True)
class _Differing:
    """Calls over one set of axes, whatever their dtype: what is declared of them, and what was traced."""

    key: Key
    declared: Amount
    traced: Amount

    @property
    def lost(self) -> int:
        return self.declared.nearest(self.traced.calls) - self.traced.calls

    @property
    def basis(self) -> str:
        over, calls = "+".join(self.key.axes), self.declared.nearest(self.traced.calls)
        place = f"{self.key.phase} {self.key.kind} over {over}"
        return f"{place}: {calls} calls declared, {self.traced.calls} in the traced program"


def communication_differs(case_run: CaseRun, first: str | None) -> Iterator[Cause]:
    """Compare declared and traced collectives; one lost here and one gained there is a wrong axis or a wrong kind.

    first   the first tensor to diverge, None where none does: what comes after it cannot be why
    """
    for changes in in_another_dtype(case_run):
        phases = [change.declared.phase for change in changes]
        weight = 0.5 if _is_late(phases, first) or (first is not None and changes[0].loses_nothing) else 1.0
        for axis in changes[0].declared.axes:
            sure = changes[0].sure * weight
            yield Cause(
                cause=changes[0].words(phases),
                axis=axis,
                confidence=sure,
                axis_confidence=sure / len(changes[0].declared.axes),
                basis="; ".join(change.basis for change in changes),
            )
    for differing, cause in _differences(case_run, first):
        sure = cause.confidence / 2 if _is_late([differing.key.phase], first) else cause.confidence
        yield replace(cause, confidence=sure, axis_confidence=sure * 0.9, basis=differing.basis)


def _is_late(phases: Sequence[str], first: str | None) -> bool:
    return first is not None and _phases(first) == ("forward",) and "forward" not in phases


def _differences(case_run: CaseRun, first: str | None) -> Iterator[tuple[_Differing, Cause]]:
    differing = [_Differing(key=key, declared=said, traced=seen) for key, said, seen in differing_axes(case_run)]
    fewer, more = [each for each in differing if each.lost > 0], [each for each in differing if each.lost < 0]
    for each in fewer:
        moved = [other for other in more if _is_moved(each, other)]
        yield each, _lost(each.key, sorted((other.key for other in moved), key=lambda key: key.kind != each.key.kind))
    if not fewer:
        for each in more:
            words = f"{each.key.phase} {each.key.kind} done too often"
            yield each, Cause(cause=words, axis=_axis(each.key), confidence=0.85)
    changed = {change.declared[:3] for changes in in_another_dtype(case_run) for change in changes}
    sized = [each for each in differing if each.key[:3] not in changed]
    if sized and not fewer and not more:
        yield sized[0], _of_another_size(sized[0], first)


def _is_moved(lost: _Differing, gained: _Differing) -> bool:
    same_phase, other_axes = gained.key.phase == lost.key.phase, gained.key.axes != lost.key.axes
    return same_phase and other_axes and -gained.lost == lost.lost


def _of_another_size(differing: _Differing, first: str | None) -> Cause:
    """Where values are wrong too, that as much travels otherwise may be a consequence: it says where."""
    key = differing.key
    sizes = f"{differing.declared.bytes} bytes declared, {differing.traced.bytes} traced"
    words = f"{key.phase} {key.kind} of another size: {sizes}"
    return Cause(cause=words, axis=_axis(key), confidence=0.88, place=first is not None)


def only_axis(case_run: CaseRun, tensor: str) -> str | None:
    """The one axis that can be meant: of the axes wider than 1, the only one with traffic where the tensor is made."""
    wide = {axis for axis, size in case_run.case.mesh.sizes if size > 1}
    declared = case_run.evidence.declarations.traffic
    if len(wide) > 1 and declared is not None:
        wide &= {axis for transfer in declared if transfer.phase in _phases(tensor) for axis in transfer.axes}
    return wide.pop() if len(wide) == 1 else None


def _phases(tensor: str) -> tuple[str, ...]:
    """The phases whose collectives can be the first to spoil a tensor."""
    if tensor.startswith(("activations/", "outputs/")):
        return ("forward",)
    if tensor.startswith(("gradients/", "input_gradients/")):
        return ("backward", "update")
    if tensor == "loss" or tensor.startswith("metrics/"):
        return ("forward", "backward", "update")
    return ()  # parameters and optimizer state go wrong without any collective too


def _lost(key: Key, moved: Sequence[Key]) -> Cause:
    """Over more or fewer axes than declared, the axis is the one by which they differ."""
    if not moved:
        return Cause(cause=f"{key.phase} {key.kind} missing", axis=_axis(key), confidence=0.9)
    declared, traced = key.axes, moved[0].axes
    words = f"{key.phase} {key.kind} over {'+'.join(traced)} instead of {'+'.join(declared)}"
    apart = [axis for axis in (*declared, *traced) if (axis in declared) != (axis in traced)]
    nested = set(declared) <= set(traced) or set(traced) <= set(declared)
    if nested and moved[0].kind == key.kind:
        return Cause(cause=words, axis=apart[0], confidence=0.93)
    return Cause(cause=words, axis=_axis(key), confidence=0.9)


def _axis(key: Key) -> str | None:
    return key.axes[0] if key.axes else None
