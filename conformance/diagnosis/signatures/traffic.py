"""Signatures of communication: the trace shows a collective that is missing, repeated, or over another axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from conformance.checks.communication import differing_axes
from conformance.checks.differences import Key
from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause


def communication_differs(case_run: CaseRun, first: str | None) -> Iterator[Cause]:
    """Compare declared and traced collectives; one lost here and one gained there is a wrong axis or a wrong kind.

    first   the first tensor to diverge: what comes after it cannot be why
    """
    counts = {key: (said, seen) for key, said, seen in differing_axes(case_run)}
    for key, cause in _differences(case_run):
        late = first is not None and _phases(first) == ("forward",) and key[0] != "forward"
        said, seen = counts[key]
        basis = f"{key[0]} {key[1]} over {'+'.join(key[2])}: {said} calls declared, {seen} in the traced program"
        sure = cause.confidence / 2 if late else cause.confidence
        yield replace(cause, confidence=sure, axis_confidence=sure * 0.9, basis=basis)


def _differences(case_run: CaseRun) -> Iterator[tuple[Key, Cause]]:
    differing = differing_axes(case_run)
    fewer = [(key, said - seen) for key, said, seen in differing if seen < said]
    more = [(key, seen - said) for key, said, seen in differing if seen > said]
    for key, count in fewer:
        moved = [other for other, gained in more if gained == count and other[0] == key[0] and other[2] != key[2]]
        yield key, _lost(key, moved)
    if not fewer:
        for key, _ in more:
            yield key, Cause(cause=f"{key[0]} {key[1]} done too often", axis=_axis(key), confidence=0.85)
    if differing and not fewer and not more:
        key = differing[0][0]
        yield key, Cause(cause=f"{key[0]} {key[1]} of another size", axis=_axis(key), confidence=0.88)


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


def _lost(key: Key, moved: list[Key]) -> Cause:
    if moved:
        other = "+".join(moved[0][2])
        return Cause(cause=f"{key[0]} {key[1]} over {other} instead", axis=_axis(key), confidence=0.9)
    return Cause(cause=f"{key[0]} {key[1]} missing", axis=_axis(key), confidence=0.9)


def _axis(key: Key) -> str | None:
    return key[2][0] if key[2] else None
