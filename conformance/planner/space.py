"""The search space: every way to divide so many devices over the axes, with microbatches, recomputation, schedules."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from conformance.cases.plannable import Layout
from conformance.contract.mesh import Mesh
from conformance.planner.question import Question

ROW_AXES = ("data", "fsdp", "expert")  # each of their devices has rows of its own


@dataclass(frozen=True, kw_only=True)
class Space:
    """The layouts that the program takes, and how many it refuses, by reason."""

    layouts: tuple[Layout, ...]
    refused: Counter[str]

    @property
    def size(self) -> int:
        return len(self.layouts) + self.refused.total()


def space(question: Question) -> Space:
    """Everything that is possible, each once."""
    taken, refused = [], Counter[str]()
    for mesh in meshes(question.devices, question.axes):
        for layout in layouts_on(question, mesh):
            why = question.family.refused(question.training, layout)
            if why:
                refused[why] += 1
            else:
                taken.append(layout)
    return Space(layouts=tuple(taken), refused=refused)


def layouts_of(question: Question) -> Iterator[Layout]:
    """What the program takes, one after the other."""
    for mesh in meshes(question.devices, question.axes):
        for layout in layouts_on(question, mesh):
            if not question.family.refused(question.training, layout):
                yield layout


def meshes(devices: int, axes: tuple[str, ...]) -> Iterator[Mesh]:
    """Every factorisation of the devices over the axes; axes of size 1 are left out. The product is `devices`."""
    for factors in factorisations(devices, len(axes)):
        sizes = tuple((axis, size) for axis, size in zip(axes, factors, strict=True) if size > 1)
        yield Mesh(sizes=sizes or ((axes[0], 1),))


def factorisations(number: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every ordered way to write a number as a product of so many factors of at least 1."""
    if parts == 1:
        yield (number,)
        return
    for first in divisors(number):
        yield from ((first, *rest) for rest in factorisations(number // first, parts - 1))


def divisors(number: int) -> list[int]:
    small = [i for i in range(1, math.isqrt(number) + 1) if number % i == 0]
    return sorted({*small, *(number // i for i in small)})


def layouts_on(question: Question, mesh: Mesh) -> Iterator[Layout]:
    """Microbatches divide the rows of a device evenly; where rows do not divide, one layout stands for all.

    Stages work on the same microbatches.
    """
    rows, leftover = divmod(question.training.rows, math.prod(mesh.size(axis) for axis in ROW_AXES))
    slices = divisors(rows) if rows and not leftover else [1]
    for microbatches in slices:
        for recompute in question.family.recomputes:
            for schedule in question.family.schedules if mesh.size("pipeline") > 1 else ("",):
                yield Layout(mesh=mesh, microbatches=microbatches, recompute=recompute, schedule=schedule)
