"""Pictures of a plan: memory over its step, where the time goes, who sends to whom, and bytes by axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from conformance.cases.plan_file import PlanFile
from conformance.cases.plannable import GRADIENTS, SAVED, WORKING
from conformance.report import panels

GIB = 2**30
MOST_SLICES = 4  # microbatches that are drawn
UPDATE = 0.94  # of the step, when it begins
STATE = ("parameters", "optimizer", "batch")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A place in the step, as a part of it, with the bytes that live there by kind."""

    at: float
    held: dict[str, float]


def moments(plan: PlanFile) -> list[Moment]:
    """What lives when: activations are saved in each forward pass and used up in the backward pass behind it.

    Gradients live from the first backward pass to the update. Of stages activations pile up until the first microbatch
    comes back, and are used up behind the last one. The shape follows from what the program does; the height
    is that of the compiled program where one was made, else the prediction.
    """
    predicted, scale = plan.predicted, _scale(plan)
    parts = {kind: scale * predicted.temporaries.get(kind, 0) for kind in (SAVED, GRADIENTS, WORKING)}
    held = (predicted.parameter_bytes, predicted.optimizer_bytes, predicted.batch_bytes)
    state = dict(zip(STATE, map(float, held), strict=True))
    timeline = [Moment(at=0.0, held={**state, **dict.fromkeys(parts, 0.0)})]
    shown = 0 if plan.schedule else min(plan.microbatches, MOST_SLICES)
    if plan.schedule:
        timeline += [Moment(at=UPDATE * at, held={**state, **held}) for at, held in _filled(plan, parts)]
    for piece in range(shown):
        for share, rest in _slice(parts, is_first=not piece):
            timeline.append(Moment(at=UPDATE * (piece + share) / shown, held={**state, **rest}))
    last = {**state, SAVED: 0.0, GRADIENTS: parts[GRADIENTS], WORKING: 0.0}
    return [*timeline, Moment(at=UPDATE, held=last), Moment(at=1.0, held=last)]


def _slice(parts: Mapping[str, float], *, is_first: bool) -> Iterator[tuple[float, dict[str, float]]]:
    """(part of the time of a slice, what lives then): a third of it is the forward pass."""
    before = 0.0 if is_first else parts[GRADIENTS]
    for share, saved, gradients in ((0.0, 0.0, before), (1 / 3, 1.0, before), (1 / 3, 1.0, None), (1.0, 0.0, None)):
        summed = parts[GRADIENTS] if gradients is None else gradients
        yield share, {SAVED: saved * parts[SAVED], GRADIENTS: summed, WORKING: parts[WORKING]}


def _filled(plan: PlanFile, parts: Mapping[str, float]) -> Iterator[tuple[float, dict[str, float]]]:
    """(part of the time up to the update, what lives then) of the first rank: it fills, keeps on, and drains."""
    fills = max(0.05, plan.predicted.bubble_seconds / plan.predicted.step_seconds / 2)
    work = {WORKING: parts[WORKING]}
    yield 0.0, {SAVED: 0.0, GRADIENTS: 0.0, **work}
    yield fills, {SAVED: parts[SAVED], GRADIENTS: 0.0, **work}
    yield fills, {SAVED: parts[SAVED], GRADIENTS: parts[GRADIENTS], **work}
    yield 1 - fills, {SAVED: parts[SAVED], GRADIENTS: parts[GRADIENTS], **work}
    yield 1.0, {SAVED: 0.0, GRADIENTS: parts[GRADIENTS], **work}


def _scale(plan: PlanFile) -> float:
    """Compiled temporaries by those that were predicted."""
    compiled = plan.evidence.temporary_bytes if plan.evidence else None
    return compiled / plan.predicted.temporary_bytes if compiled and plan.predicted.temporary_bytes else 1.0


def draw_memory(plan: PlanFile, usable_bytes: float, path: Path) -> None:
    """Memory of a device over one step, beside what it has."""
    with panels.drawn(path, [4.6]) as [pane]:
        points = moments(plan)
        kinds = (*STATE, GRADIENTS, WORKING, SAVED)
        values = [[moment.held[kind] / GIB for moment in points] for kind in kinds]
        pane.stackplot([moment.at for moment in points], values, labels=kinds, colors=_colours(len(kinds)))
        pane.axhline(usable_bytes / GIB, color="black", linewidth=2)
        pane.text(0.0, usable_bytes / GIB, " what a device has, less 10 %", va="bottom", fontsize=10)
        pane.set(xlim=(0, 1), ylim=(0, 1.12 * usable_bytes / GIB), ylabel="GiB on a device")
        pane.set_xticks([0, UPDATE], ["first microbatch", "update"])
        pane.spines[["top", "right"]].set_visible(False)
        is_cut = plan.microbatches > MOST_SLICES and not plan.schedule
        of = f"{MOST_SLICES} of {plan.microbatches} microbatches" if is_cut else "one step"
        pane.set_title(f"Memory of a device over {of}", loc="left")
        pane.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, fontsize=10)


def _colours(many: int) -> Sequence[str]:
    return ("#56b4e9", "#0072b2", "#999999", "#e69f00", "#cc79a7", "#009e73")[:many]


def draw_time(plan: PlanFile, path: Path) -> None:
    """What a step is spent on, by the cost model."""
    predicted = plan.predicted
    parts = {"matrix products": predicted.compute_seconds}
    parts |= {f"sending over {axes}": took for axes, took in predicted.communication_seconds.items()}
    parts |= {"waiting for other stages": predicted.bubble_seconds} if predicted.bubble_seconds else {}
    shown = {name: took for name, took in parts.items() if took > 0.001 * predicted.step_seconds}
    with panels.drawn(path, [1.2 + 0.45 * len(shown)]) as [pane]:
        shares = {name: 100 * took / predicted.step_seconds for name, took in shown.items()}
        panels.bars(pane, shares, "% of a step, modelled: nothing overlaps", "Where the time of a step goes")


def sent(plan: PlanFile) -> tuple[Mapping[str, int], str]:
    """(bytes that a device sends in a step by axes, what they are): as compiled, or the budget where nothing was."""
    if plan.evidence is None:
        return plan.predicted.communication_bytes, "GiB that a device sends in a step, by its budget"
    of = " that sends most" if plan.schedule else ""
    return plan.evidence.communication_bytes, f"GiB that a device{of} sends in a step, as compiled"


def draw_sending(plan: PlanFile, path: Path) -> None:
    """Who sends to whom, and how much in all."""
    every, what = sent(plan)
    alone = {axes: size for axes, size in every.items() if "+" not in axes}
    least = 0.001 * max(every.values(), default=0)
    sizes = {axes: size / GIB for axes, size in every.items() if size > least}
    with panels.drawn(path, [6.5, 1.4 + 0.45 * len(sizes)]) as [graph, pane]:
        panels.sending(graph, plan.layout.mesh, alone)
        panels.bars(pane, sizes, what, "Bytes by axes")
