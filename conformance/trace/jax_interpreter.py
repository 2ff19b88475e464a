"""The interpreter: walks a traced step and evaluates it again, handing every collective to its owner.

Law: with an owner that performs each collective as written, the evaluation equals the original program bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax

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
    """Performs every collective as it is written, and is shown what every equation makes of what.

    A program inside a shard_map or a loop has values of its own: `enter` is told which of them are which outside, and
    `leave` hands out what is to leave with the results, stacked by device or by turn, for `left`.
    """

    def __call__(self, place: Place, operands: list[Any]) -> list[Any]:
        assert place.call is not None
        return perform(place.call, operands)

    def note(self, place: Place, operands: list[Any], results: list[Any]) -> None:
        """One equation that was evaluated, none that holds a program."""

    def enter(self, place: Place, inside: list[Any], outside: list[Any]) -> None:
        """A program inside begins."""

    def leave(self, results: list[Any]) -> list[Any]:
        """It ends."""
        return []

    def left(self, place: Place, results: list[Any], extra: list[Any]) -> None:
        """Its results and what it handed out, as they are outside."""

    def turn_by_turn(self, turns: int) -> bool:
        """Whether a loop is to be written out, so that each turn is seen by itself."""
        return False

    def stands_for(self, value: Any, others: list[Any]) -> None:
        """A value is a part of others, or others stacked."""


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
    here = replace(frame, path=(*frame.path, (number, 0)), names=f"{frame.names}/{version.name_stack(eqn)}")
    return Place(eqn=eqn, frame=here, call=_call(eqn, frame))


def _call(eqn: JaxprEqn, frame: Frame, alone: bool = False) -> Call | None:
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


def evaluate(program: ClosedJaxpr, args: list[Any], frame: Frame, owner: Owner) -> list[Any]:
    """Run a program on values (or tracers); every collective goes through `owner(place, operands) -> results`."""
    jaxpr = program.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, program.consts, strict=True))
    values.update(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, version.Literal) else values[atom]

    for number, eqn in enumerate(jaxpr.eqns):
        place = at(frame, number, eqn)
        with version.same_names(eqn):
            operands = [read(atom) for atom in eqn.invars]
            outs = _performed(place, operands, owner)
        if eqn.primitive.name not in (*version.INLINED, *version.CASTS, *CONTROL):
            owner.note(place, operands, outs)
        values.update(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _performed(place: Place, values: list[Any], owner: Owner) -> list[Any]:
    one_device = place.frame.one_device
    if one_device is not None and place.frame.sizes is None:
        return one_device.outside(place, values, owner)
    return equation(place, values, owner)


def equation(place: Place, values: list[Any], owner: Owner) -> list[Any]:
    """One equation on values (or tracers), each a whole array or, inside a shard_map, a block."""
    eqn, inside = place.eqn, place.frame.sizes is not None
    name = eqn.primitive.name
    if place.call is not None:
        return owner(place, values)
    if name in version.CASTS:
        return values
    if name in version.INLINED:
        return _inlined(place, values, owner)
    if name in CONTROL:
        return list(CONTROL[name](place, values, owner))
    if (alone := _call(eqn, place.frame, alone=True)) is not None:
        return perform(alone, values)  # as it stands it may ask for types that casts made, which are gone
    return version.bind(eqn, values, inside or place.frame.one_device is not None)


def _inlined(place: Place, values: list[Any], owner: Owner) -> list[Any]:
    """A call whose body can stand in its place; what it says about shardings and recomputation is kept."""
    (program, frame), params = children(place.eqn, place.frame)[0], place.eqn.params
    if params.get("differentiated") and params.get("prevent_cse"):
        values = list(jax.lax.optimization_barrier(tuple(values)))
    outside = place.frame.sizes is None
    if outside:
        values = _constrained(values, params.get("in_shardings"))
    outs = evaluate(program, values, frame, owner)
    return _constrained(outs, params.get("out_shardings")) if outside else outs


def _constrained(values: list[Any], shardings: Any) -> list[Any]:
    if shardings is None:
        return values
    pairs = zip(values, shardings, strict=True)
    return [jax.lax.with_sharding_constraint(v, s) if version.is_specified(s) else v for v, s in pairs]


def _shard_map(place: Place, values: list[Any], owner: Owner) -> Any:
    if place.frame.one_device is not None:
        return place.frame.one_device.mapped(place, values, owner)
    # check_vma=False: the program is already differentiated, and the casts that the check needs are gone.
    ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params

    def body(*args: Any) -> Any:
        owner.enter(place, list(args), values)
        outs = evaluate(program, list(args), frame, owner)
        return tuple(outs), tuple(extra[None] for extra in owner.leave(outs))

    every = jax.sharding.PartitionSpec(tuple(version.manual_axes(place.eqn)))
    mapped = jax.shard_map(
        body,
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=(tuple(params["out_specs"]), every),
        axis_names=frozenset(params["newly_manual_axes"]),
        check_vma=False,
    )
    outs, extra = mapped(*values)
    owner.left(place, list(outs), list(extra))
    return outs


def _scan(place: Place, values: list[Any], owner: Owner) -> Any:
    ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params
    if owner.turn_by_turn(params["length"]):
        return _written_out(place, values, owner)
    n_consts, n_carry = version.scanned(place.eqn)
    consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]

    def body(carry: Any, x: Any) -> Any:
        owner.enter(place, [*consts, *carry, *x], values)
        outs = evaluate(program, [*consts, *carry, *x], frame, owner)
        return outs[:n_carry], (outs[n_carry:], owner.leave(outs))

    how = {key: params[key] for key in ("length", "reverse", "unroll")}
    carry, (ys, extra) = jax.lax.scan(body, list(carry), list(xs), **how)
    owner.left(place, [*carry, *ys], extra)
    return [*carry, *ys]


def _written_out(place: Place, values: list[Any], owner: Owner) -> list[Any]:
    """A scan as so many copies of its body."""
    ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params
    n_consts, n_carry = version.scanned(place.eqn)
    consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]
    made: dict[int, list[Any]] = {}
    turns = range(params["length"])
    for turn in reversed(turns) if params["reverse"] else turns:
        given = [x[turn] for x in xs]
        for part, x in zip(given, xs, strict=True):
            owner.stands_for(part, [x])
        outs = evaluate(program, [*consts, *carry, *given], frame, owner)
        carry, made[turn] = outs[:n_carry], outs[n_carry:]
    stacked = [jax.numpy.stack(parts) for parts in zip(*(made[turn] for turn in turns), strict=True)]
    for number, whole in enumerate(stacked):
        owner.stands_for(whole, [made[turn][number] for turn in turns])
    return [*carry, *stacked]


def _while(place: Place, values: list[Any], owner: Owner) -> Any:
    ((cond, cond_frame), (body, body_frame)), params = children(place.eqn, place.frame), place.eqn.params
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts, state = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]

    def run(program: ClosedJaxpr, args: list[Any], frame: Frame) -> list[Any]:
        owner.enter(place, args, [])
        outs = evaluate(program, args, frame, owner)
        owner.leave(outs)  # how often it runs is not known: nothing can be handed out
        return outs

    return jax.lax.while_loop(
        lambda state: run(cond, [*cond_consts, *state], cond_frame)[0],
        lambda state: tuple(run(body, [*body_consts, *state], body_frame)),
        tuple(state),
    )


def _cond(place: Place, values: list[Any], owner: Owner) -> Any:
    def branch(program: ClosedJaxpr, frame: Frame) -> Callable[..., Any]:
        def run(*args: Any) -> tuple[Any, ...]:
            owner.enter(place, list(args), [])
            outs = evaluate(program, list(args), frame, owner)
            owner.leave(outs)  # only one of them runs
            return tuple(outs)

        return run

    index, *operands = values
    return jax.lax.switch(index, [branch(*child) for child in children(place.eqn, place.frame)], *operands)


CONTROL: dict[str, Callable[[Place, list[Any], Owner], Any]] = {
    "shard_map": _shard_map,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
