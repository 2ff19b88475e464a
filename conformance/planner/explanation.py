"""Why this layout and not another: the winner in words, each runner-up with what it lost by, what was not searched."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.planner.estimate import Estimate
from conformance.planner.question import MARGIN, Question
from conformance.planner.search import RIGHT_TO, Search, why_not
from conformance.records.formatting import binary_bytes, count, seconds

MOST_LISTED = 8
_COSTS = {"throughput": "seconds of a step", "memory": "bytes of a device", "latency": "seconds of a microbatch"}


@dataclass(frozen=True, kw_only=True)
class RunnerUp:
    """The best layout on another mesh, and why it lost."""

    estimate: Estimate
    why: str


def runners_up(search: Search, most: int = MOST_LISTED) -> tuple[RunnerUp, ...]:
    """Of each other mesh the best layout that fits; where none does, the one that needs least."""
    if search.chosen is None:
        return ()
    question, winner = search.question, search.chosen.estimate
    refuted = {tried.estimate.layout: tried.why for tried in search.tried if tried.why}
    fit = [each for each in best_of_mesh(search.fitting) if each.layout.mesh != winner.layout.mesh]
    beaten = [RunnerUp(estimate=e, why=refuted.get(e.layout) or lost_by(question, winner, e)) for e in fit]
    others = (each for each in search.frugal if each.layout.mesh != winner.layout.mesh)
    broken = [RunnerUp(estimate=e, why=refuted.get(e.layout) or _limit(question, e)) for e in others]
    half = most // 2
    return (*beaten[: max(half, most - len(broken))], *broken[: max(half, most - len(beaten))])


def best_of_mesh(ordered: Sequence[Estimate]) -> list[Estimate]:
    best: dict[str, Estimate] = {}
    for each in ordered:
        best.setdefault(str(each.layout.mesh), each)
    return list(best.values())


def lost_by(question: Question, winner: Estimate, other: Estimate) -> str:
    """What of its cost is larger than the winner's, the largest part first."""
    more = other.cost(question.objective) / winner.cost(question.objective) - 1
    if question.objective == "memory":
        return f"needs {binary_bytes(other.footprint.needed_bytes - winner.footprint.needed_bytes)} more"
    if more < 0.005:
        return "as fast, with more axes or more memory"
    parts = {"matrix products": (other.compute_seconds, winner.compute_seconds)}
    for axes in {**other.communication_seconds, **winner.communication_seconds}:
        pair = other.communication_seconds.get(axes, 0.0), winner.communication_seconds.get(axes, 0.0)
        parts[f"communication over {axes}"] = pair
    slices = (other.layout.microbatches, winner.layout.microbatches) if question.objective == "latency" else (1, 1)
    name, (own, best) = max(parts.items(), key=lambda part: part[1][0] / slices[0] - part[1][1] / slices[1])
    return f"{more:.0%} slower: {name} takes {seconds(own / slices[0])}, there {seconds(best / slices[1])}"


def _limit(question: Question, each: Estimate) -> str:
    if why_not(question, each) == "all_reduce":
        return f"an all-reduce of {binary_bytes(each.largest_all_reduce)} is over the limit"
    return f"fits in no way: {binary_bytes(each.footprint.needed_bytes)} at the least are predicted"


def words(search: Search) -> Iterator[str]:
    """The answer, sentence by sentence."""
    question, chosen = search.question, search.chosen
    if chosen is None:
        yield from nothing_fits(search)
        return
    each = chosen.estimate
    rate = question.tokens / each.step_seconds
    yield (
        f"For {question.objective} ({_COSTS[question.objective]}): {each.layout}. A step of {question.tokens:,} tokens "
        f"takes {seconds(each.step_seconds)} by the cost model, {rate:,.0f} tokens per second: matrix products "
        f"{seconds(each.compute_seconds)} at the peak of {question.chip.name}, {_links(each)}, nothing overlapped"
        f"{_waits(each)}."
    )
    yield from _compared(search)
    yield from _unexpected(search)
    for tried in search.tried:
        if tried.why:
            is_better = tried.estimate.cost(question.objective) < each.cost(question.objective)
            of = "Better by the cost model, but" if is_better else "Compiled, but"
            yield f"{of} not returned: {tried.estimate.layout}; {tried.why}."
    yield from searched(search)


def searched(search: Search) -> Iterator[str]:
    """What was looked at, and what was not."""
    question, family = search.question, search.question.family
    asked = len(search.fitting) + len(search.modelled)
    yield (
        f"{search.space.size:,} layouts over {', '.join(question.axes)}: {len(search.space.layouts):,} that can be, "
        f"{asked:,} of them predicted to fit, {len(search.tried):,} compiled."
    )
    if search.modelled:
        yield _modelled(search)
    for axis, why in family.not_searched.items():
        yield f"Not searched: {axis}, since {why}."


def _modelled(search: Search) -> str:
    """The best of what no program is compiled of, beside the answer."""
    question, best = search.question, search.modelled[0]
    why = question.family.uncompiled(question.training, best.layout)
    words = (
        f"{len(search.modelled):,} of these are known by formula alone, since {why}, and never returned; the best of "
        f"them, {best.layout}, would take {seconds(best.step_seconds)} a step, {best.footprint.bubble:.0%} of it "
        f"waiting, and {binary_bytes(best.footprint.needed_bytes)}"
    )
    if search.chosen is None:
        return f"{words}."
    return f"{words}: {_beside(best.cost(question.objective) / search.chosen.estimate.cost(question.objective))}."


def _beside(cost: float) -> str:
    """A cost beside that of the answer."""
    if cost < 0.995:
        return f"{1 - cost:.0%} less than the answer by the objective"
    return f"{cost - 1:.0%} more than the answer by the objective" if cost > 1.005 else "as good as the answer"


def _waits(each: Estimate) -> str:
    return f"; {each.footprint.bubble:.0%} of it stages wait for each other" if each.footprint.bubble else ""


def _links(each: Estimate) -> str:
    links = sorted(each.communication_seconds.items(), key=lambda link: -link[1])
    spoken = [f"{axes} {seconds(value)}" for axes, value in links if value > 0.001 * each.step_seconds]
    return f"communication over {', '.join(spoken)}" if spoken else "next to no communication"


def _compared(search: Search) -> Iterator[str]:
    """What the compiler said beside what was predicted."""
    assert search.chosen is not None
    chosen, question = search.chosen, search.question
    evidence, footprint = chosen.evidence, chosen.estimate.footprint
    usable = f"{binary_bytes(question.usable_bytes)}, which is what a device has less {MARGIN:.0%}"
    if not evidence.needed_bytes or not evidence.temporary_bytes:
        yield (
            f"Compiled at the level {evidence.level} only: parameters and slots are as predicted, "
            f"{binary_bytes(footprint.held_bytes)} with the batch; temporaries are a prediction that no compiler "
            f"confirmed, {binary_bytes(footprint.temporary_bytes)}, and the plan fits {usable}, if they are up to 25 % "
            "larger."
        )
    else:
        off = footprint.temporary_bytes / evidence.temporary_bytes - 1
        yield (
            f"Compiled for {question.chip.name}, it needs {binary_bytes(evidence.needed_bytes)} of {usable}: "
            f"parameters {binary_bytes(evidence.parameter_bytes)}, slots {binary_bytes(evidence.optimizer_bytes)}, "
            f"temporaries {binary_bytes(evidence.temporary_bytes)} ({off:+.0%} predicted)."
        )
    for finding in evidence.findings[:3]:
        yield f"Beyond the budget: {finding}"


def _unexpected(search: Search) -> Iterator[str]:
    """Where the answer was predicted not to fit."""
    assert search.chosen is not None
    needed = search.chosen.estimate.footprint.needed_bytes
    if needed > search.question.usable_bytes:
        yield (
            f"It was predicted to need {binary_bytes(needed)}, which is more: predictions are right to "
            f"{RIGHT_TO - 1:.0%}, and what is as near as that is compiled before it is said that nothing fits."
        )


def nothing_fits(search: Search) -> Iterator[str]:
    """Why not, in figures."""
    question = search.question
    if search.frugal:
        yield _least(search)
    elif search.tried:
        yield f"Nothing fits: of {len(search.fitting):,} layouts that were predicted to, none did when it was compiled."
    else:
        yield _none_at_all(search)
    for tried in search.tried:
        yield f"{tried.estimate.layout}: {tried.why}."
    yield from searched(search)
    if question.max_all_reduce is not None and search.frugal:
        smallest = min(each.largest_all_reduce for each in search.frugal)
        yield f"The smallest largest all-reduce of any layout is {binary_bytes(smallest)}."


def _least(search: Search) -> str:
    question, least = search.question, search.frugal[0]
    footprint = least.footprint
    state = footprint.parameter_bytes + footprint.optimizer_bytes + footprint.gradient_bytes
    return (
        f"Nothing fits: of {len(search.space.layouts):,} layouts the one that needs least, {least.layout}, is "
        f"predicted to need {binary_bytes(footprint.needed_bytes)} of {binary_bytes(question.usable_bytes)}, which is "
        f"what a device has less {MARGIN:.0%}; parameters, gradients and slots alone are {binary_bytes(state)}."
    )


def _none_at_all(search: Search) -> str:
    """No layout, or none of which a program is compiled."""
    question, space = search.question, search.space
    if space.layouts:
        why = question.family.uncompiled(question.training, space.layouts[0])
        return f"No layout over {', '.join(question.axes)} is compiled, so that none is returned: {why}."
    why, times = space.refused.most_common(1)[0]
    return f"No layout of {count(question.devices, 'device')}: {why} ({times:,} of {space.size:,} layouts)."
