"""One program compiled from shapes alone: bytes per device, and what the busiest stage communicates in a step."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.sharding import NamedSharding
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from conformance.contract.implementation import Traffic
from conformance.trace.jax_places import Frame, Place, at, children
from conformance.trace.jax_trace import payload_bytes
from suites.hybrid.full_size.programs import Program
from suites.pipeline.jax_manual.packing import PACKED


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Figures of one compiled program; bytes are per device.

    parameters     of the model, all devices together
    state_bytes    parameters and optimizer slots as they are stored
    working_bytes  temporaries: gradients, slots of the schedule, what a stage keeps while it works
    traffic        of the rank of the pipeline axis that communicates most, in one step
    """

    name: str
    summary: str
    mesh: str
    parameters: int
    state_bytes: int
    working_bytes: int
    seconds: float
    traffic: tuple[Traffic, ...]

    def record(self) -> dict[str, Any]:
        return asdict(self)


def compiled(program: Program) -> Compiled:
    """Trace and compile; no array of the model is ever made."""
    made = program.implementation(program.contract, program.mesh, "float32")
    sizes = [program.mesh.size(axis) for axis in program.mesh.axes]
    devices = np.array(jax.devices()[: math.prod(sizes)]).reshape(sizes)
    made.settle(jax.sharding.Mesh(devices, program.mesh.axes))
    state, batch = packed_state(made), program.contract.batches(0, 1)[0]
    jaxpr = jax.make_jaxpr(made.program)(state, batch)
    ranks = [_traffic(jaxpr, made, rank) for rank in range(made.ranks)]
    started = time.perf_counter()
    memory = made.program.lower(state, batch).compile().memory_analysis()
    return Compiled(
        name=program.contract.name,
        summary=program.contract.summary,
        mesh=str(program.mesh),
        parameters=sum(map(math.prod, program.contract.shapes.values())),
        state_bytes=memory.argument_size_in_bytes,
        working_bytes=memory.temp_size_in_bytes,
        seconds=time.perf_counter() - started,
        traffic=max(ranks, key=lambda traffic: sum(collective.bytes for collective in traffic)),
    )


def packed_state(made: Any) -> dict:
    """The shapes and shardings of the state."""
    sizes = [made.mesh.size(axis) for axis in made.pack_axes]
    specs = made.state_specs()

    def vector(dtype: str) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(made.device_mesh, made.packed_spec())
        return jax.ShapeDtypeStruct((*sizes, made.stored_vector.length), dtype, sharding=sharding)

    slots = {slot: {PACKED: vector(made.master)} for slot in specs["optimizer"]}
    count = jax.ShapeDtypeStruct((), "int32", sharding=NamedSharding(made.device_mesh, specs["count"]))
    return {"parameters": {PACKED: vector(made.stored_dtype)}, "optimizer": slots, "count": count}


def _traffic(jaxpr: ClosedJaxpr, made: Any, rank: int) -> tuple[Traffic, ...]:
    """What one rank of the pipeline axis communicates: of every `switch` it takes its own branches."""
    totals: dict[tuple, list[float]] = defaultdict(lambda: [0, 0])
    for place, times in _executed(jaxpr.jaxpr, Frame(), made, rank, 1):
        if place.call is not None and place.call.kind != "axis_index":
            axes = tuple(axis for axis in made.mesh.axes if axis in place.call.axes)
            total = totals[place.call.kind, axes, place.frame.phase]
            total[0] += times * len(place.eqn.invars)
            total[1] += times * payload_bytes(place)
    traffic = (
        Traffic(kind=kind, axes=axes, phase=phase, calls=round(calls), bytes=round(size))
        for (kind, axes, phase), (calls, size) in totals.items()
    )
    return tuple(sorted(traffic, key=lambda entry: -entry.bytes))


def _executed(jaxpr: Jaxpr, frame: Frame, made: Any, rank: int, times: float) -> Iterator[tuple[Place, float]]:
    """Every equation that a rank runs, and how often."""
    for number, eqn in enumerate(jaxpr.eqns):
        place = at(frame, number, eqn)
        yield place, times
        programs = children(eqn, place.frame)
        for n, (program, below) in enumerate(programs):
            again = times * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
            if eqn.primitive.name == "cond":
                again *= _share(n, len(programs), made, rank)
            if again:
                yield from _executed(program.jaxpr, below, made, rank, again)


def _share(branch: int, branches: int, made: Any, rank: int) -> float:
    """The share of executions in which a rank takes a branch of a `switch`."""
    work = made.ticks.branches
    if branches == len(work):
        kind, stage = work[branch]
        return made.schedule.microbatches / made.ticks.number if kind and made.schedule.holders[stage] == rank else 0
    return float(branch == rank) if branches == made.ranks else 1 / branches


def page(programs: list[Compiled]) -> str:
    """The figures as tables."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True, autoescape=False,
    )  # fmt: skip
    environment.filters["mib"] = lambda size: f"{size / 2**20:,.1f}"
    environment.filters["millions"] = lambda number: f"{number / 1e6:,.0f} M"
    return environment.get_template("page.md").render(programs=programs)
