"""The search: rank what fits, then compile the best until the compiler agrees; what does not fit is never returned.

Where the compiled program needs more than was predicted, all other predictions are raised by the same factor before
the next one is taken. Where nothing is left, what is predicted not to fit by less than predictions are off is compiled
too, before it is said that nothing fits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from conformance.cases.plannable import Footprint, Layout
from conformance.contract.mesh import Mesh
from conformance.planner.estimate import Estimate, estimate
from conformance.planner.evidence import Compiler, Tried
from conformance.planner.question import Question
from conformance.planner.space import Space, layouts_of, space
from conformance.records.formatting import count
from conformance.targets.devices import why_no_target

MOST_COMPILED = 8
MOST_NEAR = 3  # compiled though they are predicted not to fit
RIGHT_TO = 1.15  # a compiled program needs as much as was predicted, or less or more by this
UNSURE = 1.25  # temporaries that no compiler has confirmed are taken to be so much larger
Progress = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Search:
    """Everything that was looked at.

    fitting  the layouts that are predicted to keep every limit and of which a program is compiled, the best first
    modelled the same of which none is: known by formula alone, and never returned
    frugal   of every mesh on which none does, the layout that needs least memory, the least first
    tried    those that were compiled, in order; `chosen` is the one that is returned
    """

    question: Question
    space: Space
    fitting: tuple[Estimate, ...]
    modelled: tuple[Estimate, ...]
    frugal: tuple[Estimate, ...]
    tried: tuple[Tried, ...]
    chosen: Tried | None


def search(question: Question, compiler: Compiler, on_progress: Progress) -> Search:
    """Enumerate, prune, rank, compile."""
    possible = space(question)
    on_progress(
        f"{possible.size:,} layouts of {count(question.devices, 'device')}, {len(possible.layouts):,} that the program "
        "takes"
    )
    footprints = footprints_of(question, possible)
    fitting, modelled = _predicted(question, footprints)
    frugal = _frugal(question, footprints, {each.layout.mesh for each in fitting})
    tried, chosen = _confirmed(question, fitting, compiler, on_progress)
    if chosen is None:
        near = _near(question, frugal, max((attempt.miss for attempt in tried), default=1.0))
        more, chosen = _confirmed(question, near, compiler, on_progress, is_near=True)
        tried += more
    return Search(
        question=question,
        space=possible,
        fitting=fitting,
        modelled=modelled,
        frugal=frugal,
        tried=tuple(tried),
        chosen=chosen,
    )


def predicted(question: Question) -> tuple[Estimate, ...]:
    """What is predicted to keep every limit and can be compiled, the best first; nothing is compiled."""
    layouts = [layout for layout in layouts_of(question) if not is_modelled(question, layout)]
    return _predicted(question, {layout: footprint_of(question, layout) for layout in layouts})[0]


def _predicted(
    question: Question, footprints: dict[Layout, Footprint]
) -> tuple[tuple[Estimate, ...], tuple[Estimate, ...]]:
    """(those of which a program is compiled, the others)."""
    pairs = (pair for pair in footprints.items() if in_memory(question, pair[1]))
    every = ranked(question, [estimate(question, *pair) for pair in pairs])
    sorted_out: tuple[list[Estimate], list[Estimate]] = [], []
    for each in every:
        sorted_out[is_modelled(question, each.layout)].append(each)
    return tuple(sorted_out[0]), tuple(sorted_out[1])


def is_modelled(question: Question, layout: Layout) -> bool:
    """Whether a layout is known by formula alone."""
    return bool(question.family.uncompiled(question.training, layout))


def footprints_of(question: Question, possible: Space) -> dict[Layout, Footprint]:
    """What each layout holds and computes; far less work than its cost."""
    return {layout: footprint_of(question, layout) for layout in possible.layouts}


def footprint_of(question: Question, layout: Layout) -> Footprint:
    return question.family.footprint(question.training, layout)


def _frugal(question: Question, footprints: dict[Layout, Footprint], fitting: set[Mesh]) -> tuple[Estimate, ...]:
    least: dict[Mesh, Layout] = {}
    for layout, footprint in footprints.items():
        if layout.mesh in fitting or is_modelled(question, layout):
            continue
        best = least.get(layout.mesh)
        if best is None or footprint.needed_bytes < footprints[best].needed_bytes:
            least[layout.mesh] = layout
    ordered = sorted(least.values(), key=lambda layout: footprints[layout].needed_bytes)
    return tuple(estimate(question, layout, footprints[layout]) for layout in ordered)


def _near(question: Question, frugal: Sequence[Estimate], factor: float) -> list[Estimate]:
    """What may fit after all, what is predicted to need least first; none where no compiler would tell."""
    if why_no_target(question.chip, question.devices):
        return []
    most = int(RIGHT_TO * question.usable_bytes)
    near = [
        each
        for each in frugal
        if each.footprint.held_bytes <= question.usable_bytes
        and each.footprint.held_bytes + factor * each.footprint.temporary_bytes <= most
        and keeps_all_reduce(question, each)
    ]
    return near[:MOST_NEAR]


def ranked(question: Question, estimates: Sequence[Estimate], factor: float = 1.0) -> tuple[Estimate, ...]:
    """What keeps the limits, the best first; of equals the one with fewer axes, then the one that needs less."""
    keeping = [each for each in estimates if not why_not(question, each, factor)]

    def order(each: Estimate) -> tuple[float, int, int, int]:
        cost = float(f"{each.cost(question.objective):.3g}")  # what differs by less is no reason
        return cost, len(each.layout.mesh.sizes), each.footprint.needed_bytes, each.layout.microbatches

    return tuple(sorted(keeping, key=order))


def why_not(question: Question, each: Estimate, factor: float = 1.0) -> str:
    """Which limit an estimate breaks: memory, all_reduce, or none."""
    if not in_memory(question, each.footprint, factor):
        return "memory"
    return "" if keeps_all_reduce(question, each) else "all_reduce"


def keeps_all_reduce(question: Question, each: Estimate) -> bool:
    return question.max_all_reduce is None or each.largest_all_reduce <= question.max_all_reduce


def in_memory(question: Question, footprint: Footprint, factor: float = 1.0) -> bool:
    """Whether it is predicted to fit, its temporaries multiplied by a factor."""
    factor *= UNSURE if why_no_target(question.chip, question.devices) else 1.0
    return footprint.held_bytes + factor * footprint.temporary_bytes <= question.usable_bytes


def _confirmed(
    question: Question, given: Sequence[Estimate], compiler: Compiler, on_progress: Progress, *, is_near: bool = False
) -> tuple[list[Tried], Tried | None]:
    """Compile the best, and after each miss the best of what is left under the raised predictions.

    What is near is compiled in its order, since no prediction says that it fits.
    """
    tried: list[Tried] = []
    left, factor = list(given), 1.0
    while left and len(tried) < MOST_COMPILED:
        on_progress(f"compiling {left[0].layout}")
        attempt = compiler(question, left[0])
        tried.append(attempt)
        if attempt.holds:
            return tried, attempt
        factor = max(factor, attempt.miss)
        left = left[1:] if is_near else list(ranked(question, left[1:], factor))
    return tried, None
