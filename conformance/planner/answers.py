"""A question to a planner and its answer, and what our footprint and cost model say of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from conformance.cases.plannable import Layout
from conformance.cases.usage import UsageError
from conformance.contract.mesh import Mesh
from conformance.planner.asking import Asked, question
from conformance.planner.estimate import estimate
from conformance.planner.question import Question
from conformance.planner.search import footprints_of, in_memory, is_modelled
from conformance.planner.space import layouts_on, space
from conformance.records.formatting import count


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to a planner."""

    model: str
    devices: int
    memory: str

    @property
    def question(self) -> Question:
        return _question(self)

    def with_memory(self, memory: str) -> Case:
        return replace(self, memory=memory)

    def with_devices(self, devices: int) -> Case:
        return replace(self, devices=devices)

    def __str__(self) -> str:
        return f"{self.model} on {count(self.devices, 'device')} of {self.memory}"


@cache
def _question(case: Case) -> Question:
    return question(Asked(model=case.model, devices=case.devices, memory=case.memory))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Axes with their sizes, and what else was said; None is what was left open."""

    sizes: Mapping[str, int]
    microbatches: int | None = None
    recompute: str | None = None
    schedule: str | None = None

    def layouts(self, case: Case) -> list[Layout]:
        """Every layout that keeps to what was said and that can be; stages are known by formula."""
        wanted = case.question
        fitting = (
            layout
            for layout in layouts_on(wanted, self.mesh(wanted))
            if self.microbatches in (None, layout.microbatches)
            and self.recompute in (None, layout.recompute)
            and self.schedule in (None, layout.schedule)
        )
        return [layout for layout in fitting if not wanted.family.refused(wanted.training, layout)]

    def mesh(self, wanted: Question) -> Mesh:
        order = {axis: place for place, axis in enumerate(wanted.family.axes)}
        axes = sorted((axis for axis, size in self.sizes.items() if size > 1), key=lambda axis: order.get(axis, 99))
        return Mesh(sizes=tuple((axis, self.sizes[axis]) for axis in axes) or ((wanted.family.axes[0], 1),))

    def needed_bytes(self, case: Case) -> int | None:
        """Of the layout that needs least; None where our program takes none."""
        wanted = case.question
        layouts = self.layouts(case)
        return min((wanted.family.footprint(wanted.training, each).needed_bytes for each in layouts), default=None)

    def least_bytes(self, case: Case) -> int | None:
        """State alone: parameters, gradients and slots, which no policy changes."""
        wanted = case.question
        every = (wanted.family.footprint(wanted.training, each) for each in self.layouts(case)[:1])
        return next((each.parameter_bytes + each.gradient_bytes + each.optimizer_bytes for each in every), None)

    def step_seconds(self, case: Case) -> float | None:
        """Of the fastest layout that fits; None where none does."""
        wanted = case.question
        pairs = ((each, wanted.family.footprint(wanted.training, each)) for each in self.layouts(case))
        times = [estimate(wanted, *pair).step_seconds for pair in pairs if in_memory(wanted, pair[1])]
        return min(times, default=None)

    def refused(self, case: Case) -> str:
        """Why nobody takes a layout of this mesh, where it has all its axes: what most of its layouts fail by."""
        wanted = case.question
        if self.dead_axes(case) or self.layouts(case):
            return ""
        every = layouts_on(wanted, self.mesh(wanted))
        reasons = Counter(wanted.family.refused(wanted.training, layout) for layout in every)
        return next((reason for reason, _ in reasons.most_common() if reason), "no layout is as the answer says")

    def dead_axes(self, case: Case) -> list[str]:
        """Axes with more than one device that our program, of this model, divides nothing over."""
        return [axis for axis, size in self.sizes.items() if size > 1 and axis not in case.question.family.axes]

    def __str__(self) -> str:
        return ",".join(f"{axis}={size}" for axis, size in self.sizes.items())


def answered(planner: Callable[[str, int, str], Any], case: Case) -> Answer | None:
    """None where the planner says that nothing fits, or raises."""
    try:
        return read_answer(planner(case.model, case.devices, case.memory))
    except UsageError:
        raise
    except Exception:
        return None


def read_answer(given: Any) -> Answer | None:
    """Raises UsageError where an answer is no mapping of axes to sizes."""
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise UsageError(f"A planner answers with a mapping of axes to sizes, or None, not with {given!r}.")
    others = {name: given.get(name) for name in ("microbatches", "recompute", "schedule")}
    sizes = {str(axis): size for axis, size in given.items() if axis not in others}
    for axis, size in sizes.items():
        if not isinstance(size, int) or size < 1:
            raise UsageError(f"A planner gave axis '{axis}' the size {size!r}: a size is a whole number of at least 1.")
    return Answer(sizes=sizes, **others)


def best(case: Case) -> str:
    """A layout that fits, in words; 'nothing' where none does."""
    return str(next(_fitting(case.question), "nothing"))


def _fitting(wanted: Question) -> Iterator[Layout]:
    footprints = footprints_of(wanted, space(wanted))
    fitting = (layout for layout, footprint in footprints.items() if in_memory(wanted, footprint))
    yield from (layout for layout in fitting if not is_modelled(wanted, layout))
