"""The interpreter: evaluates a traced step again, place by place, handing every collective to its owner.

Law: with an owner that performs each collective as written, the evaluation equals the original program bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from conformance.trace import jax_version as version
from conformance.trace.jax_collectives import perform
from conformance.trace.jax_places import Frame, Owner, Place, at, children, collective_at
from conformance.trace.jax_version import ClosedJaxpr


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
    if (alone := collective_at(eqn, place.frame, alone=True)) is not None:
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
    return jax.shard_map(
        lambda *args: tuple(evaluate(program, list(args), frame, owner)),
        mesh=params["mesh"],
        in_specs=tuple(params["in_specs"]),
        out_specs=tuple(params["out_specs"]),
        axis_names=frozenset(params["newly_manual_axes"]),
        check_vma=False,
    )(*values)


def _scan(place: Place, values: list[Any], owner: Owner) -> Any:
    ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params
    n_consts, n_carry = version.scanned(place.eqn)
    consts, carry, xs = values[:n_consts], values[n_consts : n_consts + n_carry], values[n_consts + n_carry :]

    def body(carry: Any, x: Any) -> Any:
        outs = evaluate(program, [*consts, *carry, *x], frame, owner)
        return outs[:n_carry], outs[n_carry:]

    how = {key: params[key] for key in ("length", "reverse", "unroll")}
    carry, ys = jax.lax.scan(body, list(carry), list(xs), **how)
    return [*carry, *ys]


def _while(place: Place, values: list[Any], owner: Owner) -> Any:
    ((cond, cond_frame), (body, body_frame)), params = children(place.eqn, place.frame), place.eqn.params
    n_cond, n_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts, state = values[:n_cond], values[n_cond : n_cond + n_body], values[n_cond + n_body :]

    return jax.lax.while_loop(
        lambda state: evaluate(cond, [*cond_consts, *state], cond_frame, owner)[0],
        lambda state: tuple(evaluate(body, [*body_consts, *state], body_frame, owner)),
        tuple(state),
    )


def _cond(place: Place, values: list[Any], owner: Owner) -> Any:
    def branch(program: ClosedJaxpr, frame: Frame) -> Callable[..., Any]:
        return lambda *args: tuple(evaluate(program, list(args), frame, owner))

    index, *operands = values
    return jax.lax.switch(index, [branch(*child) for child in children(place.eqn, place.frame)], *operands)


CONTROL: dict[str, Callable[[Place, list[Any], Owner], Any]] = {
    "shard_map": _shard_map,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
}
