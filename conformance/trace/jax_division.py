"""How the arithmetic of a traced JAX step lies along each mesh axis: on the same values everywhere, or on a rank's own.

Inside a shard_map a value varies along an axis if it comes from a block that the axis divides, or from the rank's
number; a sum or a gather over the axis makes it the same everywhere. Law: what does not vary is the same bits on all
ranks of the axis. Outside, the partitioner divides the work, as its shardings say; where they say nothing the compiled
program is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import jax

from conformance.contract.mesh import Mesh
from conformance.evidence.division import LITTLE
from conformance.evidence.evidence import Division
from conformance.trace import jax_version as version
from conformance.trace.jax_flops import product_flops
from conformance.trace.jax_hlo import spanned_axes
from conformance.trace.jax_operations import operations
from conformance.trace.jax_placed import done_alone
from conformance.trace.jax_places import Frame, Place, at, children, walk
from conformance.trace.jax_version import ClosedJaxpr, JaxprEqn

Axes = frozenset[str]
NONE: Axes = frozenset()


def divisions(
    program: ClosedJaxpr, mesh: Mesh, state: Any, given: Sequence[Any], compiled: Callable[[], str | None]
) -> Mapping[str, Division]:
    """Every axis of size above 1 of which it is known. `compiled` gives the text of the partitioned program.

    given   what the program was given, in the order of its inputs: the leaves of the state and of the batch
    """
    places = list(walk(program.jaxpr, Frame(), every_branch=False))
    total, products = _work(places, operations), _work(places, product_flops)
    named, manual = frozenset(_sharded_axes(places, state)), _manual_axes(places, total)
    own = _Varying()
    own.program(program, [NONE] * len(program.jaxpr.invars), Frame())
    everything = Division(alike=0, own=total, own_products=products)
    nothing = Division(alike=total, own=0, own_products=0)
    axes = [axis for axis in mesh.axes if mesh.size(axis) > 1]
    if done_alone(program, given, total):
        return dict.fromkeys(axes, replace(nothing, alone=True))
    by_axis: dict[str, Division] = {}
    text: str | None = None
    for axis in axes:
        mine = own.operations.get(axis, 0)
        if mine or axis in manual:
            by_axis[axis] = Division(
                alike=max(total - mine, 0),
                own=mine,
                own_products=own.products.get(axis, 0),
                own_tables=own.tables.get(axis, 0),
                skipped_products=own.skipped.get(axis, 0),
            )
        elif axis in named:
            by_axis[axis] = everything
        else:
            text = compiled() if text is None else text
            if text is not None:
                by_axis[axis] = everything if axis in spanned_axes(text, mesh) else nothing
    return by_axis


def _work(places: Iterable[Place], operations_of: Callable[[JaxprEqn], int]) -> int:
    return sum(place.frame.trips * operations_of(place.eqn) for place in places)


def _manual_axes(places: Sequence[Place], total: int) -> Axes:
    """The axes of every shard_map, where all but little of the work is inside of one."""
    outside = _work((place for place in places if place.frame.sizes is None), operations)
    if outside > LITTLE * total:
        return NONE
    return frozenset(axis for place in places for axis in place.frame.sizes or {})


class _Varying:
    """Walks a program with the axes along which each value varies; sums up the work on values that do.

    Outside of every shard_map a value is known by the axes along which its blocks are copies of each other: what one
    shard_map leaves for the next, for its own transpose say, comes out as blocks of all axes, alike or not.
    """

    def __init__(self) -> None:
        self.operations: dict[str, int] = {}
        self.products: dict[str, int] = {}
        self.tables: dict[str, int] = {}
        self.skipped: dict[str, int] = {}
        self._counting = True

    def program(self, program: ClosedJaxpr, given: Sequence[Axes], frame: Frame) -> list[Axes]:
        jaxpr = program.jaxpr
        known: dict[Any, Axes] = dict.fromkeys(jaxpr.constvars, NONE) | dict(zip(jaxpr.invars, given, strict=True))

        def read(atom: Any) -> Axes:
            return NONE if isinstance(atom, version.Literal) else known[atom]

        for number, eqn in enumerate(jaxpr.eqns):
            outs = self._equation(at(frame, number, eqn), [read(atom) for atom in eqn.invars])
            known.update(zip(eqn.outvars, outs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, place: Place, given: list[Axes]) -> list[Axes]:
        eqn, name = place.eqn, place.eqn.primitive.name
        if name in version.INLINED:
            return self.program(*_only(place, given))
        if name in _CONTROL:
            return _CONTROL[name](self, place, given)
        if place.frame.sizes is None:
            return list(given) if name == "optimization_barrier" else [NONE] * len(eqn.outvars)
        varies = NONE.union(*given)
        self._count(place, varies)
        if name == "gather":
            self._count_lookup(place, given[0])
        if name not in _COMMUNICATES and name not in version.CASTS:
            return [varies] * len(eqn.outvars)
        if name in version.CASTS:
            return list(given)
        return _communicated(place, given)

    def _count(self, place: Place, varies: Axes) -> None:
        if not self._counting or not varies:
            return
        size, product = place.frame.trips * operations(place.eqn), place.frame.trips * product_flops(place.eqn)
        for axis in varies:
            self.operations[axis] = self.operations.get(axis, 0) + size
            self.products[axis] = self.products.get(axis, 0) + product

    def _count_lookup(self, place: Place, table: Axes) -> None:
        """To look something up is no arithmetic; who has another part of the table has divided it all the same."""
        for axis in table if self._counting else ():
            self.tables[axis] = self.tables.get(axis, 0) + place.frame.trips

    def shard_map(self, place: Place, given: list[Axes]) -> list[Axes]:
        ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params
        manual, nested = frozenset(version.manual_axes(place.eqn)), place.frame.sizes is not None
        pairs = [(axes, frozenset(_named(spec)) & manual) for axes, spec in zip(given, params["in_specs"], strict=True)]
        outs = self.program(program, [axes | named if nested else named - axes for axes, named in pairs], frame)
        if nested:
            return [
                axes - manual | frozenset(_named(spec)) for axes, spec in zip(outs, params["out_specs"], strict=True)
            ]
        return [frozenset(_named(spec)) - axes for axes, spec in zip(outs, params["out_specs"], strict=True)]

    def scan(self, place: Place, given: list[Axes]) -> list[Axes]:
        ((program, frame),) = children(place.eqn, place.frame)
        n_consts, n_carry = version.scanned(place.eqn)
        carry = slice(n_consts, n_consts + n_carry)
        settled = self._settled(lambda now: self.program(program, now, frame)[:n_carry], list(given), carry, frame)
        return self.program(program, settled, frame)

    def while_(self, place: Place, given: list[Axes]) -> list[Axes]:
        ((cond, cond_frame), (body, body_frame)), params = children(place.eqn, place.frame), place.eqn.params
        n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
        inner = list(given[n_cond:])
        settled = self._settled(lambda now: self.program(body, now, body_frame), inner, slice(n_body, None), body_frame)
        stops = NONE.union(*self.program(cond, [*given[:n_cond], *settled[n_body:]], cond_frame))
        outs = self.program(body, settled, body_frame)
        return outs if body_frame.sizes is None else [axes | stops for axes in outs]

    def cond(self, place: Place, given: list[Axes]) -> list[Axes]:
        index, *operands = given
        branches = [self.program(program, operands, frame) for program, frame in children(place.eqn, place.frame)]
        self._count_branches(place, index)
        if place.frame.sizes is None:
            return [frozenset.intersection(*outs) for outs in zip(*branches, strict=True)]
        return [index.union(*outs) for outs in zip(*branches, strict=True)]

    def _count_branches(self, place: Place, index: Axes) -> None:
        """Where ranks take different branches, all that is calculated in them is a rank's own."""
        if not index or place.frame.sizes is None:
            return
        branches = [list(walk(program.jaxpr, frame)) for program, frame in children(place.eqn, place.frame)]
        for inner in chain.from_iterable(branches):
            self._count(inner, index)
        products = [_work(branch, product_flops) for branch in branches]
        for axis in index if self._counting and not min(products) else ():
            self.skipped[axis] = self.skipped.get(axis, 0) + max(products)

    def _settled(
        self, run: Callable[[list[Axes]], list[Axes]], given: list[Axes], carry: slice, frame: Frame
    ) -> list[Axes]:
        """What a loop carries varies at last as much as in any round, and is a copy only if it always is."""
        counting, self._counting = self._counting, False
        while True:
            outs = run(given)
            pairs = zip(given[carry], outs, strict=True)
            wider = [before & out if frame.sizes is None else before | out for before, out in pairs]
            if wider == given[carry]:
                self._counting = counting
                return given
            given[carry] = wider


def _only(place: Place, given: list[Axes]) -> tuple[ClosedJaxpr, list[Axes], Frame]:
    ((program, frame),) = children(place.eqn, place.frame)
    return program, given, frame


_CONTROL: dict[str, Callable[[_Varying, Place, list[Axes]], list[Axes]]] = {
    "shard_map": _Varying.shard_map,
    "scan": _Varying.scan,
    "while": _Varying.while_,
    "cond": _Varying.cond,
}
_COMMUNICATES = (*version.REDUCTIONS, *version.GATHERS, *version.SCATTERS, "all_to_all", "ppermute", "axis_index")


def _communicated(place: Place, given: list[Axes]) -> list[Axes]:
    eqn, name = place.eqn, place.eqn.primitive.name
    axes = frozenset(version.axis_names(eqn))
    if name == "axis_index":
        return [axes] * len(eqn.outvars)
    apart = eqn.params.get("axis_index_groups") is not None
    if name in version.REDUCTIONS or name in version.GATHERS:
        return [varies | axes if apart else varies - axes for varies in given]
    if name == "ppermute":
        whole = len(eqn.params["perm"]) == math.prod((place.frame.sizes or {}).get(axis, 1) for axis in axes)
        return [varies if whole and not varies & axes else varies | axes for varies in given]
    return [varies | axes for varies in given]


def _named(spec: Any) -> Iterator[str]:
    """The axes that a PartitionSpec names."""
    for part in spec or ():
        yield from part if isinstance(part, (tuple, list)) else (part,) if isinstance(part, str) else ()


def _sharded_axes(places: Iterable[Place], state: Any) -> Iterator[str]:
    """The axes over which the state, or a value outside every shard_map, is said to be divided."""
    for leaf in jax.tree_util.tree_leaves(state):
        yield from _named(getattr(getattr(leaf, "sharding", None), "spec", ()))
    for place in places:
        if place.frame.sizes is None and place.eqn.primitive.name != "shard_map":
            for value in place.eqn.params.values():
                for item in value if isinstance(value, (tuple, list)) else (value,):
                    yield from _named(getattr(item, "spec", ()))
            for atom in place.eqn.outvars:
                yield from _named(getattr(getattr(atom.aval, "sharding", None), "spec", ()))
