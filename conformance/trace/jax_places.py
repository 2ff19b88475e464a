"""Places of a traced step: every equation, where it stands, the programs inside it, and who performs collectives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from conformance.contract.implementation import Phase
from conformance.trace import jax_version as version
from conformance.trace.jax_collectives import Call, perform, read_call
from conformance.trace.jax_version import ClosedJaxpr, Jaxpr, JaxprEqn
from conformance.traffic.phase import phase_of

Path = tuple[tuple[int, int], ...]


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where the interpreter stands.

    path    (number of the equation, number of the program inside it), from the outermost program inwards
    scope   the part of the path that closes over values: a value is visible where its scope is a prefix
    names   the name stacks on the way
    sizes   axis -> size inside a shard_map; None outside
    trips   how often one step runs this place
    one_device  how the mesh is evaluated where one device stands in place of it; None on a mesh
    callers  the equations that the program belongs to, from the outermost inwards
    """

    path: Path = ()
    scope: Path = ()
    names: str = ""
    sizes: dict[str, int] | None = None
    trips: int = 1
    one_device: OneDevice | None = None
    callers: tuple[JaxprEqn, ...] = ()

    @property
    def phase(self) -> Phase:
        return phase_of(self.names)


class OneDevice(Protocol):
    """How a traced step is evaluated on one device in place of a mesh (`jax_one_device`)."""

    def outside(self, place: Place, values: list[Any], owner: Owner) -> list[Any]:
        """An equation outside of every shard_map."""

    def mapped(self, place: Place, values: list[Any], owner: Owner) -> list[Any]:
        """A shard_map."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """One equation and where it stands; `call` is set for a collective."""

    eqn: JaxprEqn
    frame: Frame
    call: Call | None = field(default=None)

    @property
    def line(self) -> str:
        """`file:line` of the user's program; where JAX has none for what is inside a call, that of the call."""
        lines = map(version.user_line, (self.eqn, *reversed(self.frame.callers)))
        return next(filter(None, lines), "")


class Owner:
    """Performs every collective as it is written."""

    def __call__(self, place: Place, operands: list[Any]) -> list[Any]:
        assert place.call is not None
        return perform(place.call, operands)


def children(eqn: JaxprEqn, frame: Frame) -> list[tuple[ClosedJaxpr, Frame]]:
    """The programs inside an equation, in the order in which they run, each with its frame."""
    name, frame = eqn.primitive.name, replace(frame, callers=(*frame.callers, eqn))
    if name in version.INLINED:
        return [(version.inner(eqn), _below(frame, 0))]
    if name == "shard_map":
        sizes = (frame.sizes or {}) | version.manual_axes(eqn)
        return [(version.inner(eqn), replace(_scoped(frame, 0), sizes=sizes))]
    if name == "scan":
        return [(version.inner(eqn), replace(_scoped(frame, 0), trips=frame.trips * eqn.params["length"]))]
    if name == "while":
        return [(eqn.params[key], _scoped(frame, n)) for n, key in enumerate(("cond_jaxpr", "body_jaxpr"))]
    if name == "cond":
        return [(branch, _scoped(frame, n)) for n, branch in enumerate(eqn.params["branches"])]
    return []


def _below(frame: Frame, part: int) -> Frame:
    return replace(frame, path=(*frame.path[:-1], (frame.path[-1][0], part)))


def _scoped(frame: Frame, part: int) -> Frame:
    below = _below(frame, part)
    return replace(below, scope=below.path)


def at(frame: Frame, number: int, eqn: JaxprEqn) -> Place:
    """The place of equation `number` of the program in which the frame stands."""
    here = replace(frame, path=(*frame.path, (number, 0)), names=f"{frame.names}/{version.name_stack(eqn)}")
    return Place(eqn=eqn, frame=here, call=collective_at(eqn, frame))


def collective_at(eqn: JaxprEqn, frame: Frame, alone: bool = False) -> Call | None:
    """The collective that an equation is; `alone`: without the types that casts around it made."""
    if frame.sizes is None or (call := read_call(eqn, frame.sizes, alone)) is None:
        return None
    return call if frame.one_device is None else replace(call, gathered=True)


def walk(jaxpr: Jaxpr, frame: Frame, *, every_branch: bool = True) -> Iterator[Place]:
    """Every equation in program order, from the outside in; or only the branch of a `cond` with most collectives.

    The body of a `while` stands once: how often it runs is not in the program.
    """
    for number, eqn in enumerate(jaxpr.eqns):
        place = at(frame, number, eqn)
        yield place
        programs = children(eqn, place.frame)
        if eqn.primitive.name == "cond" and not every_branch:
            programs = [max(programs, key=lambda program: _collectives(*program))]
        for program, below in programs:
            yield from walk(program.jaxpr, below, every_branch=every_branch)


def _collectives(program: ClosedJaxpr, frame: Frame) -> int:
    return sum(place.call is not None for place in walk(program.jaxpr, frame))
