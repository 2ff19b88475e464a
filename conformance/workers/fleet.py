"""One evidence from those of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.contract.implementation import Traffic
from conformance.evidence.arithmetic import Operation, distinct
from conformance.evidence.blocks import merged
from conformance.evidence.evidence import Evidence, Observations, Observed, Trial
from conformance.workers.observe import Unreadable


def united(parts: Sequence[Evidence]) -> Evidence:
    """Every rank's blocks, the busiest rank's traffic, the slowest rank's seconds, all ranks' flops.

    Raises Unreadable where ranks see tensors of different shapes under one name.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    traffic = [part.traffic for part in parts if part.traffic is not None]
    steps = tuple(_joined(step) for step in zip(*(part.steps for part in parts), strict=True))
    flops = [part.flops for part in parts if part.flops is not None]
    phases = dict.fromkeys(phase for part in parts for phase in part.seconds)
    return Evidence(
        initial=_joined([part.initial for part in parts]),
        steps=steps,
        declarations=first.declarations,
        repeated=_repeated(parts, steps[0]),
        responses={key: any(part.responses[key] for part in parts) for key in first.responses},
        devices=tuple(sorted({device for part in parts for device in part.devices})),
        traffic=busiest(traffic) if traffic else None,
        computed={rank: seen for part in parts for rank, seen in part.computed.items()},
        flops={rank: count for part in flops for rank, count in part.items()} if flops else None,
        unwatched=first.unwatched,
        unseen={what: why for part in parts for what, why in part.unseen.items()},
        arithmetic=_arithmetic(parts),
        related={law: _trials([part.related.get(law, ()) for part in parts]) for law in first.related},
        declined={law: reason for part in parts for law, reason in part.declined.items()},
        timeline=first.timeline,
        seconds={phase: max(part.seconds.get(phase, 0.0) for part in parts) for phase in phases},
    )


def _arithmetic(parts: Sequence[Evidence]) -> tuple[Operation, ...] | None:
    """What any rank has done; None where one of them was not watched."""
    if any(part.arithmetic is None for part in parts):
        return None
    return distinct([one for part in parts for one in part.arithmetic or ()])


def _repeated(parts: Sequence[Evidence], first: Observations) -> Observations | None:
    """The first step again; what is the same object as before on every rank is the same here."""
    again = [part.repeated for part in parts if part.repeated is not None]
    if not again:
        return None
    names = dict.fromkeys(name for one in again for name in one)
    pairs = [(part.steps[0], part.repeated or {}) for part in parts]
    differing = {name for name in names for one, other in pairs if one.get(name) is not other.get(name)}
    other = _joined([{name: one[name] for name in one if name in differing} for one in again])
    return {name: other[name] if name in differing else first[name] for name in names}


def _trials(parts: Sequence[Sequence[Trial]]) -> tuple[Trial, ...]:
    """Trials of the same label as one; refused if any rank refused it."""
    same: dict[str, list[Trial]] = {}
    for trial in (trial for part in parts for trial in part):
        same.setdefault(trial.label, []).append(trial)
    return tuple(
        replace(
            trials[0],
            observations=_joined([trial.observations for trial in trials]),
            refused=next((trial.refused for trial in trials if trial.refused), ""),
        )
        for trials in same.values()
    )


def _joined(parts: Sequence[Observations]) -> Observations:
    """In the order of the first rank that has a name: not every rank has every observation."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: _one(name, [part[name] for part in parts if name in part]) for name in names}


def _one(name: str, parts: Sequence[Observed]) -> Observed:
    first = parts[0]
    for other in parts[1:]:
        if (other.shape, other.dtype, other.stored_shape) != (first.shape, first.dtype, first.stored_shape):
            raise Unreadable(
                f"The ranks do not agree on '{name}': it is {first.dtype} {list(first.shape)} on one and "
                f"{other.dtype} {list(other.shape)} on another."
            )
    return replace(
        first,
        blocks=merged([block for part in parts for block in part.blocks]),
        stored_bytes={rank: size for part in parts for rank, size in part.stored_bytes.items()},
        owed_by=tuple(sorted({rank for part in parts for rank in part.owed_by})),
    )


def busiest(parts: Sequence[tuple[Traffic, ...]]) -> tuple[Traffic, ...]:
    """Of every kind, over the same axes in the same phase, the most that any rank has."""
    most: dict[tuple, Traffic] = {}
    for one in (one for part in parts for one in part):
        key = (one.kind, one.axes, one.phase)
        known = most.get(key, one)
        most[key] = replace(one, calls=max(one.calls, known.calls), bytes=max(one.bytes, known.bytes))
    return tuple(most.values())
