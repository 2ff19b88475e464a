"""The traced JAX step: its collectives, its matrix products, and itself again with one collective changed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, TypeGuard, cast

import jax

from conformance.cases.case import Mutation
from conformance.cases.raised import said
from conformance.contract.implementation import CollectiveKind, Traffic
from conformance.contract.mesh import Mesh
from conformance.evidence.arithmetic import Operation
from conformance.evidence.busiest import busiest
from conformance.evidence.evidence import Division
from conformance.evidence.intermediates import Intermediates
from conformance.evidence.orders import orders_of
from conformance.trace import jax_reordered
from conformance.trace import jax_version as version
from conformance.trace.calls import Calls
from conformance.trace.dataflow import narrow_arithmetic
from conformance.trace.jax_branches import Size, has_branches, of_all_devices
from conformance.trace.jax_collectives import Call
from conformance.trace.jax_dataflow import JaxFlow
from conformance.trace.jax_division import divisions
from conformance.trace.jax_evaluation import Wrong, intermediates
from conformance.trace.jax_flops import device_flops
from conformance.trace.jax_interpreter import evaluate
from conformance.trace.jax_mutants import Mutant, Mutants, Numbered
from conformance.trace.jax_one_device import OneDevice, refuse_undivided
from conformance.trace.jax_places import Frame, Owner, Path, Place, walk
from conformance.trace.jax_spread import is_spread
from conformance.trace.jax_unreadable import refuse_unreadable
from conformance.trace.lower_precision import lower_precision
from conformance.trace.operators import Collective, MutationError, applicable
from conformance.trace.site import Site

Step = Callable[[Any, Any], tuple[Any, Any]]


class Program:
    """One whole training step, differentiation inside, as a jaxpr.

    step   (state, batch) -> (state, observations); everything in it must be traceable
    mesh   the mesh of the case; the axes of the step's own jax mesh have the same names
    `unseen` is as in Evidence.
    Raises UnreadableCollectiveError when the step holds a collective unknown here, and whatever tracing raises.
    """

    def __init__(self, step: Step, state: Any, batch: Any, mesh: Mesh) -> None:
        jax_reordered.register()
        self.mesh = mesh
        self.unseen: dict[str, str] = {}
        self._asked: set[Mutation] = set()
        self._given = jax.tree_util.tree_leaves((state, batch))
        self._jaxpr, shape = jax.make_jaxpr(step, return_shape=True)(state, batch)
        self._out_tree = jax.tree_util.tree_structure(shape)
        self._observed, self._orders = _observed(shape), orders_of(_returned(shape))
        refuse_unreadable(self._jaxpr.jaxpr)

    @cached_property
    def _collectives(self) -> tuple[Numbered, ...]:
        collectives: list[Numbered] = []
        for place in walk(self._jaxpr.jaxpr, Frame()):
            if place.call is not None:
                earlier = _earlier(place, collectives)
                what = _describe(place, place.call, self.mesh, any(earlier))
                collectives.append(
                    Numbered(number=len(collectives), place=place, call=place.call, what=what, earlier=earlier)
                )
        return tuple(collectives)

    def sites(self) -> tuple[Site, ...]:
        """Every collective in program order, the transposed ones too, with the operators that apply to it."""
        return tuple(
            Site(
                number=site.number,
                kind=site.what.kind,
                axes=site.what.axes,
                phase=site.place.frame.phase,
                shape=site.what.shape,
                operators=applicable(site.what, self.mesh),
                reduction=site.what.reduction,
            )
            for site in self._collectives
        )

    def traffic(self) -> tuple[Traffic, ...] | None:
        """Calls and payload bytes per device by kind, axes, phase and dtype; None when the partitioner decides them."""
        if not any(place.frame.sizes for place in walk(self._jaxpr.jaxpr, Frame())):
            return None
        if has_branches(self._jaxpr.jaxpr):
            axes = dict(zip(self.mesh.axes, self.mesh.shape, strict=True))
            return busiest([_added(counts) for counts in of_all_devices(self._jaxpr, axes, self._sizes)])
        counts = Counter[Size]()
        for place in walk(self._jaxpr.jaxpr, Frame()):
            for size in self._sizes(place):
                counts[size] += place.frame.trips
        return _added(counts)

    def _sizes(self, place: Place) -> Iterator[Size]:
        """Every operand of a collective, by what is counted together."""
        if place.call is not None and place.call.kind != "axis_index":
            axes = _in_mesh_order(place.call.axes, self.mesh)
            for operand, result in zip(place.eqn.invars, place.eqn.outvars, strict=True):
                size, dtype = max(_bytes(operand), _bytes(result)), str(version.dtype(operand))
                yield place.call.kind, axes, place.frame.phase, dtype, size

    def flops(self) -> dict[int, int] | None:
        """Matrix-product operations per rank; None where the partitioner divides some of the work."""
        flops = device_flops(self._jaxpr.jaxpr, self.mesh)
        return None if flops is None else dict.fromkeys(range(self.mesh.devices), flops)

    def arithmetic(self) -> tuple[Operation, ...]:
        """The narrow arithmetic that made gradients and loss, and that of statistics."""
        flow = JaxFlow(self._jaxpr.jaxpr)
        return narrow_arithmetic(flow.nodes, {name: flow.results[number] for number, name in self._observed.items()})

    def divisions(self, step: Step, state: Any, batch: Any, partitioned: str | None = None) -> Mapping[str, Division]:
        """How the arithmetic lies along the axes of which it is known. `partitioned`: the program behind SPMD
        partitioning, where it was compiled already."""
        return divisions(
            self._jaxpr, self.mesh, state, self._given, lambda: partitioned or self._compiled(step, state, batch)
        )

    def _compiled(self, step: Step, state: Any, batch: Any) -> str | None:
        """The text of the program that the partitioner made; None where the step does not compile as a whole."""
        try:
            return jax.jit(step).lower(state, batch).compile().as_text()
        except Exception as failure:
            self.unseen["work"] = f"the step does not compile as a whole ({said(failure)})"
            return None

    def lower_precision(self) -> tuple[Operation, ...]:
        """What rounds to fewer bits than float64 on its way to a result."""
        flow = JaxFlow(self._jaxpr.jaxpr, bits=64, values=self._given)
        return lower_precision(flow.nodes, flow.results)

    def mutated(self, mutation: Mutation | None) -> Step:
        """The step, compiled, with one collective changed; with None the step as it is.

        From the second mutation on, all of them are in one program (`jax_mutants`).
        Raises MutationError when the mutation does not apply, or gives the wrong shape when the step is called.
        """
        self._owner(mutation)  # complains now
        if self._is_one_of_several(mutation):
            return partial(self._mutants.step, mutation)

        def again(state: Any, batch: Any) -> tuple[Any, Any]:
            return self._evaluated(state, batch, self._owner(mutation))

        return jax.jit(again)

    def _evaluated(self, state: Any, batch: Any, owner: Owner) -> tuple[Any, Any]:
        outs = evaluate(self._jaxpr, jax.tree_util.tree_leaves((state, batch)), Frame(), owner)
        value: tuple[Any, Any] = jax.tree_util.tree_unflatten(self._out_tree, outs)
        return value

    def _is_one_of_several(self, mutation: Mutation | None) -> TypeGuard[Mutation]:
        if mutation is not None:
            self._asked.add(mutation)
        return mutation is not None and len(self._asked) > 1

    @cached_property
    def _mutants(self) -> Mutants:
        return Mutants(self._collectives, self.mesh, self._evaluated)

    def on_one_device(self, mutation: Mutation | None) -> Step:
        """The step, compiled, with every shard_map evaluated on one device, and one collective changed.

        It takes and gives `Spread` tensors besides whole ones. Raises NothingToDivideError, and as `mutated` does.
        """
        refuse_undivided(self._jaxpr.jaxpr, self.mesh)
        self._owner(mutation)

        def again(state: Any, batch: Any) -> tuple[Any, Any]:
            given = jax.tree_util.tree_leaves((state, batch), is_leaf=is_spread)
            outs = evaluate(self._jaxpr, given, Frame(one_device=OneDevice()), self._owner(mutation))
            value: tuple[Any, Any] = jax.tree_util.tree_unflatten(self._out_tree, outs)
            return value

        return jax.jit(again)

    def intermediates(self, state: Any, batch: Any, mutation: Mutation | None) -> Intermediates:
        """What every operation of the step makes, on every device. Raises as `jax_evaluation.intermediates` does."""
        wrong = None if mutation is None else Wrong(site=self._find(mutation), operator=mutation.operator)
        given = jax.tree_util.tree_leaves((state, batch))
        seen = intermediates(self._jaxpr, given, self.mesh, self._observed, wrong)
        return replace(seen, orders=self._orders)

    def _owner(self, mutation: Mutation | None) -> Owner:
        return Owner() if mutation is None else Mutant(self._find(mutation), mutation.operator, self.mesh)

    def _find(self, mutation: Mutation) -> Numbered:
        sites = self._collectives
        if not 0 <= mutation.site < len(sites):
            raise MutationError(f"There is no collective {mutation.site}: the step has {len(sites)}, counted from 0.")
        site = sites[mutation.site]
        if mutation.operator not in (names := applicable(site.what, self.mesh)):
            raise MutationError(
                f"Operator '{mutation.operator}' does not apply to collective {site.number}, an {site.what.kind} over "
                f"{', '.join(site.what.axes)}: {', '.join(names) or 'none'} would."
            )
        return site


def _added(counts: Counter[Size]) -> tuple[Traffic, ...]:
    calls = Calls()
    for (kind, axes, phase, dtype, size), number in counts.items():
        calls.add(cast(CollectiveKind, kind), axes, phase, dtype, size, number)
    return calls.traffic()


def _observed(shape: Any) -> dict[int, str]:
    """Number of a result -> the observation that it is, or is the value of."""
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(shape)[0]]
    return {n: str(path[1].key) for n, path in enumerate(paths) if len(path) > 1 and _is_observation(path)}


def _returned(shape: Any) -> Any:
    """The observations of a step that returns (state, observations)."""
    return shape[1] if isinstance(shape, tuple) and len(shape) == 2 else None


def _is_observation(path: Any) -> bool:
    return getattr(path[0], "idx", None) == 1 and hasattr(path[1], "key")


def _earlier(place: Place, collectives: list[Numbered]) -> tuple[tuple[Path, int] | None, ...]:
    """For each operand, the latest earlier operand of that shape and dtype whose value can be seen from here."""

    def alike(left: Any, right: Any) -> bool:
        return (version.shape(left), version.dtype(left)) == (version.shape(right), version.dtype(right))

    def latest(wanted: Any) -> tuple[Path, int] | None:
        for site in reversed(collectives):
            visible = place.frame.scope[: len(site.place.frame.scope)] == site.place.frame.scope
            for number, atom in enumerate(site.place.eqn.invars):
                if visible and alike(atom, wanted):
                    return site.path, number
        return None

    return tuple(latest(atom) for atom in place.eqn.invars)


def _describe(place: Place, call: Call, mesh: Mesh, has_earlier: bool) -> Collective:
    operand = (place.eqn.invars or place.eqn.outvars)[0]
    dtype = version.dtype(operand)
    return Collective(
        kind=call.kind,
        reduction=call.reduction,
        axes=_in_mesh_order(call.axes, mesh),
        size=call.size,
        shape=version.shape(operand),
        result=version.shape(place.eqn.outvars[0]),
        floating_bits=dtype.itemsize * 8 if jax.numpy.issubdtype(dtype, jax.numpy.floating) else 0,
        has_earlier=has_earlier,
    )


def _in_mesh_order(axes: tuple[str, ...], mesh: Mesh) -> tuple[str, ...]:
    return tuple(axis for axis in mesh.axes if axis in axes and mesh.size(axis) > 1)


def payload_bytes(place: Place) -> int:
    pairs = zip(place.eqn.invars, place.eqn.outvars, strict=True)
    return sum(max(_bytes(operand), _bytes(result)) for operand, result in pairs)


def _bytes(atom: Any) -> int:
    return int(math.prod(version.shape(atom)) * version.dtype(atom).itemsize)
