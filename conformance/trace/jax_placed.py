"""What a traced JAX step computes before anything lies on the mesh.

A step is called as it stands: each of its outermost equations is dispatched by itself, and runs on the devices on which
its operands lie. Operands that nobody has placed lie on one device; so does what is computed of them, unless the
equation itself places it: by a sharding inside, or a shard_map.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax

from conformance.evidence.division import LITTLE
from conformance.trace import jax_version as version
from conformance.trace.jax_operations import operations
from conformance.trace.jax_places import Frame, Place, at, children, walk
from conformance.trace.jax_version import ClosedJaxpr, JaxprEqn


def done_alone(program: ClosedJaxpr, given: Sequence[Any], total: int) -> bool:
    """Whether one device does all, or all but little, of the work: nothing that was given lies on the mesh either.

    given   what the program was given, in the order of its inputs
    total   floating-point operations of the program
    """
    return total > 0 and not any(map(_lies_on_many, given)) and _on_the_mesh(program) <= LITTLE * total


def _on_the_mesh(program: ClosedJaxpr) -> int:
    """Floating-point operations of the outermost equations that run where something was placed."""
    jaxpr, flops = program.jaxpr, 0
    closed_over = zip(jaxpr.constvars, program.consts, strict=True)
    placed = {variable for variable, value in closed_over if _lies_on_many(value)}
    for eqn in jaxpr.eqns:
        inner = list(_within(eqn))
        read = any(not isinstance(atom, version.Literal) and atom in placed for atom in eqn.invars)
        if read or any(_places(place.eqn) for place in inner):
            placed.update(eqn.outvars)
            flops += sum(place.frame.trips * operations(place.eqn) for place in inner)
    return flops


def _within(eqn: JaxprEqn) -> Iterator[Place]:
    place = at(Frame(), 0, eqn)
    yield place
    for program, frame in children(eqn, place.frame):
        yield from walk(program.jaxpr, frame, every_branch=False)


def _lies_on_many(value: Any) -> bool:
    return isinstance(value, jax.Array) and len(value.sharding.device_set) > 1


def _places(eqn: JaxprEqn) -> bool:
    """Whether it names devices or a sharding of its own."""
    if eqn.primitive.name == "shard_map":
        return True
    items = [item for value in eqn.params.values() for item in _items(value)]
    return any(isinstance(item, (jax.sharding.Sharding, jax.Device)) for item in items)


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (tuple, list)) else (value,)
