"""A pipeline whose ranks have programs of their own: scanned stages by annotation, and messages between their devices.

Each rank of the pipeline axis is a mesh of its own; the schedule says whose turn it is, and what a pass hands on is
put where the next one reads it. The loss is known to the last rank; the number of tokens that it is a mean of, and the
sum of squares for clipping, to all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, ClassVar

import jax
import numpy as np

from conformance.contract.implementation import Declarations, Implementation, Unsupported
from conformance.contract.placements import Owned, Placements
from conformance.contract.timeline import Timeline
from conformance.scale.program import StageProgram
from suites.hybrid.budget_stages import Part, StageSizes, distinct, inside, of_stage, parts
from suites.hybrid.jax_automatic.lane import Lane
from suites.hybrid.jax_automatic.stage import Kept, Stage
from suites.pipeline.drawing import timeline
from suites.pipeline.schedule import FORWARD, SEND, WORK, Schedule, ScheduleError, timed
from suites.pipeline.schedules import SCHEDULES
from suites.training.jax.state import Named


class LanguageModel(Implementation):
    """Under 1F1B."""

    framework = "jax"
    schedule_name: ClassVar[str] = "1f1b"

    @cached_property
    def schedule(self) -> Schedule:
        try:
            return SCHEDULES[self.schedule_name](self.mesh.size("pipeline"), self.contract.recipe.microbatches)
        except ScheduleError as failure:
            raise Unsupported(str(failure)) from failure

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(Stage(self.contract, inside(self.mesh), self.dtype, part) for part in self.parts)

    @property
    def parts(self) -> tuple[Part, ...]:
        layers, ranks = self.contract.model.layers, self.mesh.size("pipeline")
        if layers < ranks:
            raise Unsupported(f"{layers} layers are fewer than {ranks} stages.")
        return parts(layers, ranks)

    def timeline(self) -> Timeline | None:
        return timeline(timed(self.schedule))

    # The protocol.

    def place(self, parameters: dict[str, np.ndarray], mesh: Any) -> list[dict]:
        axis, names = list(mesh.axis_names).index("pipeline"), inside(self.mesh).axes
        shape = [inside(self.mesh).size(name) for name in names]
        meshes = [jax.sharding.Mesh(devices.reshape(shape), names) for devices in np.moveaxis(mesh.devices, axis, 0)]
        return [stage.place(parameters, own) for stage, own in zip(self.stages, meshes, strict=True)]

    def step(self, state: list[dict], batch: dict[str, Any]) -> tuple[list[dict], Mapping[str, Any]]:
        passes = self.worked(state, batch)
        sums = passes.sums()
        weight = sums.pop("weight")
        divided = [stage.averaged(g, weight) for stage, g in zip(self.stages, passes.gradients, strict=True)]
        norm = np.sqrt(sum(np.asarray(squares) for _, squares in divided))
        updated = zip(self.stages, state, divided, strict=True)
        observed = dict(self.gradients(divided)) | passes.observed()
        observed |= {name: value / max(weight, 1) for name, value in sums.items()}
        observed |= {"metrics/grad_norm": norm, "metrics/tokens": weight}
        return [stage.applied(own, g, norm) for stage, own, (g, _) in updated], observed

    def worked(self, state: list[dict], batch: dict[str, Any]) -> Passes:
        """All passes of a step, in the order of the schedule's time."""
        rows = [stage.arriving(batch) for stage in self.stages]
        passes = Passes(self.stages, [own["parameters"] for own in state], rows)
        for event in timed(self.schedule).events:
            if event.kind in WORK:
                passes.work(event.kind, event.rank, event.microbatch)
        return passes

    def gradients(self, divided: list[tuple[Named, jax.Array]]) -> Iterator[tuple[str, Any]]:
        for stage, (means, _) in zip(self.stages, divided, strict=True):
            yield from stage.told({f"gradients/{name}": g for name, g in stage.unstacked(means).items()}).items()

    def collect(self, state: list[dict]) -> Mapping[str, Any]:
        collected: dict[str, Any] = {}
        for stage, own in zip(self.stages, state, strict=True):
            collected |= stage.collect(own)
        return collected | {"optimizer/count": np.asarray(state[0]["count"])}

    def declare(self) -> Declarations:
        layout: dict[str, Placements] = {}
        for rank, stage in enumerate(self.stages):
            own = {name for stored in stage.stored_names for name in stage.layer_names(stored)}
            named = [name for name in self.contract.shapes if name in own]
            layout |= {key: {**at, "pipeline": Owned(rank)} for key, at in stage.declared_layout(named).items()}
        return Declarations(layout=layout)

    # At production size.

    def stage_programs(self) -> Iterator[StageProgram]:
        """One for each rank whose program is its own."""
        events = timed(self.schedule).lanes
        case = self.contract, inside(self.mesh), self.dtype
        for part, ranks in distinct(self.contract.model.layers, self.mesh.size("pipeline")):
            sizes = StageSizes(*case, part, self.schedule_name)
            yield StageProgram(
                rank=part.rank,
                ranks=ranks,
                layers=part.layers,
                mesh=inside(self.mesh),
                program=Lane(*case, part, self.schedule),
                budget=tuple(of_stage(sizes)),
                messages=sum(event.kind == SEND and event.peer != part.rank for event in events[part.rank]),
                message_elements=-(-sizes.tokens * sizes.model.hidden // sizes.tensor),
                message_dtype=sizes.compute,
            )


class GPipe(LanguageModel):
    """All microbatches forward, then all backward."""

    schedule_name = "gpipe"


class Passes:
    """One step under way: what waits at each rank, what has arrived, gradients and sums so far."""

    def __init__(self, stages: tuple[Stage, ...], parameters: list[Named], rows: list[Named]) -> None:
        self.stages, self.parameters, self.rows = stages, parameters, rows
        self.gradients = [stage.nothing(p) for stage, p in zip(stages, parameters, strict=True)]
        self.kept: dict[tuple[int, int], Kept] = {}
        self.arrived: dict[tuple[str, int, int], jax.Array] = {}
        self.ends: dict[int, tuple[Named, Named]] = {}

    def work(self, kind: str, rank: int, microbatch: int) -> None:
        """One piece of work; what it hands on is there for the neighbour."""
        stage, rows = self.stages[rank], {key: value[microbatch] for key, value in self.rows[rank].items()}
        arrived = self.arrived.pop((kind, rank, microbatch), None)
        arrived = stage.put_blank(rows) if arrived is None else arrived
        if kind == FORWARD:
            handed, self.kept[rank, microbatch] = stage.forwards(self.parameters[rank], arrived, rows)
            return self.hand(kind, rank + 1, microbatch, handed)
        kept = self.kept.pop((rank, microbatch))
        done = stage.backwards(self.parameters[rank], kept, arrived, rows, self.gradients[rank])
        self.gradients[rank] = done.gradients
        if done.sums:
            self.ends[microbatch] = done.sums, done.rows
        return self.hand(kind, rank - 1, microbatch, done.gradient)

    def hand(self, kind: str, rank: int, microbatch: int, x_BSD: jax.Array) -> None:
        """The message: from the devices of a rank to those of its neighbour."""
        if 0 <= rank < len(self.stages):
            stage = self.stages[rank]
            self.arrived[kind, rank, microbatch] = jax.device_put(x_BSD, stage.sharding(stage.stream_placements()))

    def sums(self) -> dict[str, Any]:
        """Over all microbatches, as plain numbers."""
        every = [sums for _, (sums, _) in sorted(self.ends.items())]
        return {name: np.sum([np.asarray(sums[name]) for sums in every], axis=0) for name in every[0]}

    def observed(self) -> dict[str, Any]:
        """What the last rank saw, its rows in the order of the batch."""
        every, stage = [rows for _, (_, rows) in sorted(self.ends.items())], self.stages[-1]
        return stage.told({name: stage.joined(name, [rows[name] for rows in every]) for name in every[0]})
