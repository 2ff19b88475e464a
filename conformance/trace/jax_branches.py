"""How often each device runs what stands in branches, where the branch follows from its place on the mesh alone.

One program for all devices does different things on them by branches: a device looks its work up in a table that is a
constant of the program, by its place along an axis and the turn of a loop. What a branch is chosen by is worked out for
one device, and nothing else is; where it hangs on a value of the step, the branch with most collectives counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from conformance.contract.implementation import Phase
from conformance.trace import jax_version as version
from conformance.trace.jax_collectives import KINDS
from conformance.trace.jax_places import Frame, Place, at, children
from conformance.trace.jax_version import ClosedJaxpr, Jaxpr, JaxprEqn

Size = tuple[str, tuple[str, ...], Phase, str, int]  # kind, axes, phase, dtype, bytes of one call
Counts = Counter[Size]
Sizes = Callable[[Place], Iterator[Size]]
Value = Callable[[], np.ndarray | None]  # worked out when it is asked for; None where it is not known


class Turns:
    """Collectives of one device, at these coordinates; `asked` are the axes whose places it had to know."""

    def __init__(self, coordinates: Mapping[str, int], sizes: Sizes) -> None:
        self._coordinates, self._sizes = coordinates, sizes
        self._flat: dict[tuple[int, str, int], Counts] = {}
        self._programs: list[Any] = []  # those that are remembered by their id
        self.asked: set[str] = set()

    def counts(self, program: Jaxpr, known: Mapping[Any, Value], frame: Frame, turns: int = 1) -> Counts:
        """Calls of a program whose inputs and constants are known as far as `known` says."""
        values, counts = dict(known), Counts()
        for number, eqn in enumerate(program.eqns):
            place = at(frame, number, eqn)
            if place.call is not None and place.call.kind != "axis_index":
                counts.update({size: turns * n for size, n in Counter(self._sizes(place)).items()})
            counts.update(self._inside(place, values, turns))
            self._note(place, values)
        return counts

    def _inside(self, place: Place, values: dict[Any, Value], turns: int) -> Counts:
        eqn, name, programs = place.eqn, place.eqn.primitive.name, children(place.eqn, place.frame)
        if name == "cond":
            return self._branch(eqn, programs, values, turns)
        counts = Counts()
        for program, frame in programs:
            if not _branches(program.jaxpr):
                times = turns * eqn.params["length"] if name == "scan" else turns
                counts.update({size: times * n for size, n in self._straight(program, frame).items()})
            elif name == "scan":
                for turn in range(eqn.params["length"]):
                    counts.update(self.counts(program.jaxpr, _of_turn(eqn, program, values, turn), frame, turns))
            else:
                counts.update(self.counts(program.jaxpr, _passed(eqn, program, values), frame, turns))
        return counts

    def _branch(
        self, eqn: JaxprEqn, programs: list[tuple[ClosedJaxpr, Frame]], values: dict[Any, Value], turns: int
    ) -> Counts:
        """The branch that this device takes; where that is not known, the one with most collectives."""
        if not any(_communicates(program.jaxpr) for program, _ in programs):
            return Counts()
        index = _read(eqn.invars[0], values)()
        if index is not None:
            programs = [programs[min(max(int(index), 0), len(programs) - 1)]]
        each = [self._straight(program, frame) for program, frame in programs]
        most = max(each, key=lambda counts: counts.total())
        return Counter({size: turns * n for size, n in most.items()})

    def _straight(self, program: ClosedJaxpr, frame: Frame) -> Counts:
        """Calls of a program in which nothing is known of what it is given; the same program is read once."""
        key = (id(program.jaxpr), frame.names, len(frame.sizes or ()))
        if key not in self._flat:
            self._programs.append(program)
            self._flat[key] = self.counts(program.jaxpr, {}, frame)
        return self._flat[key]

    def _note(self, place: Place, values: dict[Any, Value]) -> None:
        """What an equation makes, for whoever asks."""
        eqn, name = place.eqn, place.eqn.primitive.name
        if name == "axis_index":
            values[eqn.outvars[0]] = self._place(version.axis_names(eqn))
        elif name in version.INLINED:
            program = version.inner(eqn)
            inner = _passed(eqn, program, values)
            for each in program.jaxpr.eqns if _is_small(program.jaxpr) else ():
                self._note(Place(eqn=each, frame=place.frame), inner)
            for variable, result in zip(eqn.outvars, program.jaxpr.outvars, strict=True):
                values[variable] = _read(result, inner)
        elif place.call is None and not children(eqn, place.frame) and not eqn.effects:
            results = _once(lambda: _evaluated(eqn, [_read(atom, values)() for atom in eqn.invars]))
            for number, variable in enumerate(eqn.outvars):
                values[variable] = _element(results, number)

    def _place(self, axes: tuple[str, ...]) -> Value:
        def value() -> np.ndarray | None:
            if len(axes) != 1 or axes[0] not in self._coordinates:
                return None
            self.asked.add(axes[0])
            return np.asarray(self._coordinates[axes[0]], np.int32)

        return value


def of_all_devices(program: ClosedJaxpr, axes: Mapping[str, int], sizes: Sizes) -> list[Counts]:
    """What devices at different places run, each kind of device once; `axes` are those of the mesh."""
    known = dict(zip(program.jaxpr.constvars, map(_constant, program.consts), strict=True))
    first = Turns(dict.fromkeys(axes, 0), sizes)
    counts = [first.counts(program.jaxpr, known, Frame())]
    asked = [axis for axis in axes if axis in first.asked]
    for places in list(product(*(range(axes[axis]) for axis in asked)))[1:]:
        device = Turns(dict.fromkeys(axes, 0) | dict(zip(asked, places, strict=True)), sizes)
        counts.append(device.counts(program.jaxpr, known, Frame()))
    return counts


def has_branches(program: Jaxpr) -> bool:
    """Whether collectives stand in branches at all."""
    return _branches(program)


def _branches(program: Jaxpr) -> bool:
    return any(
        (eqn.primitive.name == "cond" and any(_communicates(branch.jaxpr) for branch in eqn.params["branches"]))
        or any(_branches(inner.jaxpr) for inner, _ in children(eqn, _ANYWHERE))
        for eqn in program.eqns
    )  # fmt: skip


def _communicates(program: Jaxpr) -> bool:
    return any(
        KINDS.get(eqn.primitive.name, "axis_index") != "axis_index"
        or any(_communicates(inner.jaxpr) for inner, _ in children(eqn, _ANYWHERE))
        for eqn in program.eqns
    )


_ANYWHERE = Frame(path=((0, 0),))
_SMALL = 64  # equations of a call whose results may be asked for


def _is_small(program: Jaxpr) -> bool:
    return len(program.eqns) <= _SMALL


def _passed(eqn: JaxprEqn, program: ClosedJaxpr, values: Mapping[Any, Value]) -> dict[Any, Value]:
    """What a program inside knows of its inputs. A shard_map hands on whole what it does not divide."""
    whole = eqn.primitive.name != "shard_map"
    specs = eqn.params.get("in_specs", ()) if not whole else ()
    known = dict(zip(program.jaxpr.constvars, map(_constant, program.consts), strict=True))
    for number, (variable, atom) in enumerate(zip(program.jaxpr.invars, eqn.invars, strict=False)):
        if whole or not any(specs[number]):
            known[variable] = _read(atom, values)
    return known


def _of_turn(eqn: JaxprEqn, program: ClosedJaxpr, values: Mapping[Any, Value], turn: int) -> dict[Any, Value]:
    """What the body of a loop knows in one turn: constants, and its row of what it goes through; no more."""
    consts, carry = version.scanned(eqn)
    known = dict(zip(program.jaxpr.constvars, map(_constant, program.consts), strict=True))
    row = eqn.params["length"] - 1 - turn if eqn.params["reverse"] else turn
    for number, (variable, atom) in enumerate(zip(program.jaxpr.invars, eqn.invars, strict=True)):
        if number < consts:
            known[variable] = _read(atom, values)
        elif number >= consts + carry:
            known[variable] = _element(_read(atom, values), row)
    return known


def _read(atom: Any, values: Mapping[Any, Value]) -> Value:
    if isinstance(atom, version.Literal):
        return _constant(atom.val)
    return values.get(atom, _unknown)


def _unknown() -> np.ndarray | None:
    return None


def _constant(value: Any) -> Value:
    return _once(lambda: np.asarray(value))


def _element(values: Callable[[], Any], number: int) -> Value:
    def element() -> np.ndarray | None:
        return None if (items := values()) is None else np.asarray(items[number])

    return _once(element)


def _once(work: Callable[[], Any]) -> Callable[[], Any]:
    """Worked out at the first call."""
    kept: list[Any] = []

    def value() -> Any:
        if not kept:
            kept.append(work())
        return kept[0]

    return value


def _evaluated(eqn: JaxprEqn, operands: Sequence[np.ndarray | None]) -> list[Any] | None:
    """Results of one equation; None where an operand is not known."""
    if any(operand is None for operand in operands):
        return None
    return version.bind(eqn, list(operands), True)
