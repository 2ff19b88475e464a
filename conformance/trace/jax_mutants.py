"""Mutants of a traced JAX step: one collective performed wrongly.

One mutant alone is a program of its own. Of several all are in one program, which is told by a number when it runs
which of them it is: compiling takes far longer than running, and then is done once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax

from conformance.cases.case import Mutation
from conformance.contract.mesh import Mesh
from conformance.trace import jax_version as version
from conformance.trace.jax_collectives import Call, perform, perform_mutated
from conformance.trace.jax_places import Owner, Path, Place
from conformance.trace.operators import Collective, MutationError, applicable


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A collective of the program: its number, what it is, and the operands that `stale_operand` would send."""

    number: int
    place: Place
    call: Call
    what: Collective
    earlier: tuple[tuple[Path, int] | None, ...]

    @property
    def path(self) -> Path:
        return self.place.frame.path


class Mutating(Owner):
    """Performs every collective, and remembers the operands that a stale one would send."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._operands: dict[Path, list[Any]] = {}

    def wrongly(self, site: Numbered, operator: str, operands: Sequence[Any]) -> list[Any]:
        pairs = zip(operands, site.earlier, strict=False)
        stale = [x if where is None else self._operands[where[0]][where[1]] for x, where in pairs]
        return perform_mutated(site.call, operator, operands, stale, self._mesh)


class Mutant(Mutating):
    """Performs one collective wrongly. Raises MutationError where that gives another shape."""

    def __init__(self, site: Numbered, operator: str, mesh: Mesh) -> None:
        super().__init__(mesh)
        self._site, self._operator = site, operator

    def __call__(self, place: Place, operands: list[Any]) -> list[Any]:
        assert place.call is not None
        self._operands[place.frame.path] = operands
        if place.frame.path != self._site.path:
            return perform(place.call, operands)
        results = self.wrongly(self._site, self._operator, operands)
        if sentence := misfit(self._site, self._operator, place, [x.shape for x in results]):
            raise MutationError(sentence)
        return results


class AnyMutant(Mutating):
    """Performs that collective wrongly of which the program is told the number; at 0, none.

    number   a value of the program
    misfits  is told of mutations that give another shape, each with its sentence
    """

    def __init__(self, sites: Sequence[Numbered], mesh: Mesh, number: Any, misfits: dict[Mutation, str]) -> None:
        super().__init__(mesh)
        self._sites = {site.path: site for site in sites}
        self._numbers, self._number, self._misfits = numbers(sites, mesh), number, misfits

    def __call__(self, place: Place, operands: list[Any]) -> list[Any]:
        assert place.call is not None
        call, site = place.call, self._sites[place.frame.path]
        self._operands[place.frame.path] = operands
        mutations = [mutation for mutation in self._numbers if mutation.site == site.number]
        if not mutations:
            return perform(call, operands)
        ways = [self._way(site, mutation, place, operands) for mutation in mutations]
        own = self._number - self._numbers[mutations[0]] + 1
        way = jax.numpy.where((own > 0) & (own <= len(ways)), own, 0)
        return list(jax.lax.switch(way, [lambda *given: perform(call, given), *ways], *operands))

    def _way(self, site: Numbered, mutation: Mutation, place: Place, operands: list[Any]) -> Callable[..., list[Any]]:
        """How the collective is performed under a mutation; as it is where the result would not fit."""

        def wrong(*given: Any) -> list[Any]:
            return self.wrongly(site, mutation.operator, given)

        shapes = [result.shape for result in jax.eval_shape(wrong, *operands)]
        if sentence := misfit(site, mutation.operator, place, shapes):
            self._misfits[mutation] = sentence
            return lambda *given: perform(site.call, given)
        return wrong


def numbers(sites: Sequence[Numbered], mesh: Mesh) -> dict[Mutation, int]:
    """Every mutation of a program, those of a collective one after the other, counted from 1."""
    every = (Mutation(operator=name, site=site.number) for site in sites for name in applicable(site.what, mesh))
    return {mutation: number for number, mutation in enumerate(every, 1)}


class Mutants:
    """All mutants of a program, compiled together.

    evaluated  the step under an owner (state, batch, owner) -> what it returns
    """

    def __init__(
        self, sites: Sequence[Numbered], mesh: Mesh, evaluated: Callable[[Any, Any, Owner], tuple[Any, Any]]
    ) -> None:
        self._sites, self._mesh, self._evaluated = sites, mesh, evaluated
        self._numbers, self._misfits = numbers(sites, mesh), dict[Mutation, str]()

    def step(self, mutation: Mutation, state: Any, batch: Any) -> tuple[Any, Any]:
        """What the step returns under a mutation. Raises MutationError where that gives another shape."""
        returned: tuple[Any, Any] = self._step(state, batch, self._numbers[mutation])
        if mutation in self._misfits:
            raise MutationError(self._misfits[mutation])
        return returned

    @cached_property
    def _step(self) -> Callable[..., Any]:
        def step(state: Any, batch: Any, number: Any) -> tuple[Any, Any]:
            owner = AnyMutant(self._sites, self._mesh, number, self._misfits)
            return self._evaluated(state, batch, owner)

        return jax.jit(step)


def misfit(site: Numbered, operator: str, place: Place, shapes: Sequence[tuple[int, ...]]) -> str:
    """Why a mutant cannot run: a sentence, empty where all results have the shapes that the step goes on with."""
    for shape, variable in zip(shapes, place.eqn.outvars, strict=True):
        if shape != version.shape(variable):
            return (
                f"Under '{operator}' collective {site.number} gives shape {shape}, where the "
                f"step goes on with {version.shape(variable)}: this mutant cannot run."
            )
    return ""
