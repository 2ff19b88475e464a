"""One device in place of a mesh: a traced step in which every shard_map is evaluated as nested `vmap` with axis names.

Law: rank by rank, the values are those that the mesh computes, up to the order of summation inside a collective.
The program is differentiated before: the transpose of a psum differs between shard_map and vmap.

Outside of every shard_map a value that has left one stays spread out, so that copies which differ go on to differ:
an operation on copies, or element by element, is done for every rank. Any other takes the tensor as a whole, with the
copy of the first rank, and so does a loop around a shard_map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax

from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import Mesh
from conformance.trace import jax_version as version
from conformance.trace.jax_interpreter import CONTROL, equation, evaluate
from conformance.trace.jax_places import Frame, Owner, Place, children, walk
from conformance.trace.jax_spread import Spread, SpreadLayout, is_spread, per_rank, spread_out, whole
from conformance.trace.jax_version import Jaxpr

PLACEMENTS = ("sharding_constraint", "device_put", "mesh_cast", "reshard")  # where a value lies: the same value


class NothingToDivideError(ShardproofError, ValueError):
    """A program that one device would run undivided; the message is one sentence."""


def refuse_undivided(jaxpr: Jaxpr, mesh: Mesh) -> None:
    """Raise NothingToDivideError where the partitioner, and no shard_map, divides the work along some axis."""
    manual: set[str] = set()
    for place in walk(jaxpr, Frame()):
        if place.eqn.primitive.name == "shard_map":
            manual |= set(version.manual_axes(place.eqn))
    left = [f"'{axis}'" for axis, size in mesh.sizes if size > 1 and axis not in manual]
    if left:
        raise NothingToDivideError(
            f"No shard_map of this program is manual over {' and '.join(left)}: the partitioner divides that. "
            "On one device nothing would be divided, and a pass would say nothing."
        )


@dataclass(frozen=True, kw_only=True)
class OneDevice:
    """How equations outside of a shard_map are evaluated; `copies`: what leaves a shard_map stays spread out."""

    copies: bool = True

    def outside(self, place: Place, values: list[Any], owner: Owner) -> list[Any]:
        name = place.eqn.primitive.name
        if name == "shard_map":
            return self.mapped(place, values, owner)
        if name in version.INLINED:
            ((program, frame),) = children(place.eqn, place.frame)
            return evaluate(program, values, frame, owner)
        if name in (*version.CASTS, *PLACEMENTS):
            return values
        layout = _shared_layout(place, values)
        if layout is None:
            whole_frame = replace(place.frame, one_device=OneDevice(copies=False))
            whole_place = replace(place, frame=whole_frame if name in CONTROL else place.frame)
            return equation(whole_place, [whole(value) for value in values], owner)
        if any(layout.dims):  # element by element
            values = [_spread_like(value, layout) for value in values]
        outs = per_rank(lambda *args: version.bind(place.eqn, list(args), True), values, layout)
        return [Spread(blocks=out, layout=_fitting(layout, out)) for out in outs]

    def mapped(self, place: Place, values: list[Any], owner: Owner) -> list[Any]:
        """A shard_map; inside another one, over the axes that are new."""
        ((program, frame),), params = children(place.eqn, place.frame), place.eqn.params
        axes = tuple(version.manual_axes(place.eqn).items())
        given = [
            spread_out(value, SpreadLayout.of(spec, len(value.shape), axes))
            for value, spec in zip(values, params["in_specs"], strict=True)
        ]

        def body(*args: Any) -> Any:
            return tuple(evaluate(program, list(args), frame, owner))

        for axis, size in reversed(axes):
            body = jax.vmap(body, axis_name=axis, axis_size=size)
        outs = body(*[value.blocks for value in given])
        left = [
            Spread(blocks=out, layout=SpreadLayout.of(spec, out.ndim - len(axes), axes))
            for out, spec in zip(outs, params["out_specs"], strict=True)
        ]
        return [*left] if self.copies and place.frame.sizes is None else [whole(value) for value in left]


def _shared_layout(place: Place, values: list[Any]) -> SpreadLayout | None:
    """How the operands are spread out where every rank can go on with its own; None where the whole is needed."""
    layouts: list[SpreadLayout] = [value.layout for value in values if is_spread(value)]
    if not layouts or place.eqn.primitive.name in CONTROL:
        return None
    if not any(any(layout.dims) for layout in layouts):
        return layouts[0]
    divided = next(layout for layout in layouts if any(layout.dims))
    alike = all(layout.axes == divided.axes for layout in layouts)
    return divided if alike and place.eqn.primitive.name in version.ELEMENTWISE else None


def _fitting(layout: SpreadLayout, blocks: Any) -> SpreadLayout:
    """The layout of a result: that of the operands where they are divided, copies otherwise."""
    ndim = blocks.ndim - len(layout.axes)
    return layout if any(layout.dims) else SpreadLayout(axes=layout.axes, dims=((),) * ndim)


def _spread_like(value: Any, layout: SpreadLayout) -> Any:
    """An operand of an operation element by element: a number is the same everywhere."""
    return value if len(value.shape) == 0 else spread_out(value, layout)
