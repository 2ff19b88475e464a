"""One evidence from those of all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from conformance.evidence.arithmetic import Operation, distinct
from conformance.evidence.blocks import merged
from conformance.evidence.busiest import busiest
from conformance.evidence.evidence import Copy, Evidence, ExtraRun, Observations, Observed, StateBytes
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
        input_sensitivity={key: any(part.input_sensitivity[key] for part in parts) for key in first.input_sensitivity},
        devices=tuple(sorted({device for part in parts for device in part.devices})),
        batch=_joined([part.batch for part in parts]),
        state=_state([part.state for part in parts if part.state is not None]),
        traffic=busiest(traffic) if traffic else None,
        division=first.division,
        computed={rank: seen for part in parts for rank, seen in part.computed.items()},
        flops={rank: count for part in flops for rank, count in part.items()} if flops else None,
        unwatched=first.unwatched,
        unseen={what: why for part in parts for what, why in part.unseen.items()},
        arithmetic=_arithmetic(parts),
        related={relation: _trials([part.related.get(relation, ()) for part in parts]) for relation in first.related},
        unsupported_relations={
            relation: reason for part in parts for relation, reason in part.unsupported_relations.items()
        },
        timeline=first.timeline,
        seconds={phase: max(part.seconds.get(phase, 0.0) for part in parts) for phase in phases},
    )


def _state(parts: Sequence[StateBytes]) -> StateBytes | None:
    """Every rank's bytes; a copy that several ranks have is one."""
    if not parts:
        return None
    copies: dict[tuple[str, str], Copy] = {}
    for copy in (copy for part in parts for copy in part.copies):
        key = (copy.path, copy.parameter)
        copies[key] = replace(copy, bytes={**(copies[key].bytes if key in copies else {}), **copy.bytes})
    return StateBytes(
        held={rank: size for part in parts for rank, size in part.held.items()},
        before={rank: size for part in parts for rank, size in part.before.items()},
        reused={rank: size for part in parts for rank, size in part.reused.items()},
        copies=tuple(copies.values()),
    )


def _arithmetic(parts: Sequence[Evidence]) -> tuple[Operation, ...] | None:
    """What any rank has done; None where one of them was not watched."""
    if any(part.arithmetic is None for part in parts):
        return None
    return distinct([operation for part in parts for operation in part.arithmetic or ()])


def _repeated(parts: Sequence[Evidence], first: Observations) -> Observations | None:
    """The first step again; what is the same object as before on every rank is the same here."""
    again = [part.repeated for part in parts if part.repeated is not None]
    if not again:
        return None
    names = dict.fromkeys(name for observations in again for name in observations)
    pairs = [(part.steps[0], part.repeated or {}) for part in parts]
    differing = {name for name in names for repeated, other in pairs if repeated.get(name) is not other.get(name)}
    other = _joined(
        [{name: observations[name] for name in observations if name in differing} for observations in again]
    )
    return {name: other[name] if name in differing else first[name] for name in names}


def _trials(parts: Sequence[Sequence[ExtraRun]]) -> tuple[ExtraRun, ...]:
    """Extra runs of the same label as one; refused if any rank refused it."""
    same: dict[str, list[ExtraRun]] = {}
    for extra_run in (extra_run for part in parts for extra_run in part):
        same.setdefault(extra_run.label, []).append(extra_run)
    return tuple(
        replace(
            extra_runs[0],
            observations=_joined([extra_run.observations for extra_run in extra_runs]),
            refused=next((extra_run.refused for extra_run in extra_runs if extra_run.refused), ""),
        )
        for extra_runs in same.values()
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
