"""The executor: runs any schedule in one program, tick after tick, forward and backward passes alike.

In every tick each device does its piece of work (a branch of one `switch`), then the results move along the pipeline
axis (`ppermute`). A stage keeps its input and recomputes its forward pass in the backward pass, as GPipe
does (Huang et al., section 2.3): what is kept of a microbatch is one slot.

b: rows of a microbatch  M: microbatches  L: length of a parameter vector
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from conformance.contract.alteration import Alteration
from suites.pipeline.jax_manual import wire
from suites.pipeline.jax_manual.packing import PackedTraining
from suites.pipeline.jax_manual.wire import Wire
from suites.pipeline.laws import needs_when_recomputed
from suites.pipeline.layout import PASSTHROUGH
from suites.pipeline.mutants import alterations, mutant
from suites.pipeline.schedule import FORWARD, INPUT_BACKWARD, TICKS, WEIGHT_BACKWARD, TimedSchedule, timed
from suites.pipeline.stages import INPUT_GRADIENTS
from suites.pipeline.ticks import DOWN, ROUTES, STAY, UP, Ticks, ticks
from suites.training.jax.state import Named

Places = tuple[dict[str, tuple[int, tuple[int, ...]]], ...]


class Message(NamedTuple):
    """What is received, kept and sent: floating-point and whole numbers."""

    floats: jax.Array
    wholes: jax.Array


class Given(NamedTuple):
    """What a piece of work is given: parameters, what entered its stage, the gradient of what left it, its rows."""

    vector: jax.Array
    message: Message
    gradient: jax.Array
    batch: Named
    microbatch: jax.Array


class Results(NamedTuple):
    """What is added up over ticks: the gradient vector, sums (of losses, say), what was observed [M, b, elements]."""

    gradients: jax.Array
    sums: Named
    observed: jax.Array


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Shapes that are known before the first tick.

    rows       b
    observed   stage -> name -> (where among all that is observed of one row it begins, shape for one row)
    width      elements of all that one rank observes of one row
    sums       name -> shape of what is added up
    """

    wire: Wire
    rows: int
    observed: Places
    width: int
    sums: Mapping[str, tuple[int, ...]]


class Executor(PackedTraining):
    """Runs the microbatches of one slice of a batch through all stages."""

    @cached_property
    def timed_schedule(self) -> TimedSchedule:
        table = timed(self.schedule, TICKS)
        return mutant(table, *self.altered) if self.altered else table

    def alterations(self) -> tuple[Alteration, ...]:
        return tuple(alterations(self.timed_schedule, self.pipeline_axis, needs=needs_when_recomputed))

    @cached_property
    def ticks(self) -> Ticks:
        return ticks(self.timed_schedule)

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        (packed, vector), microbatches = *parameters.items(), self.microbatches(batch)
        self.plan = self.planned({key: value[0] for key, value in microbatches.items()})
        wide = vector.astype(self.master)
        results = self.run(wide, microbatches)
        gradients = {packed: self.round_gradient(results.gradients)}
        rows = results.observed.reshape(self.schedule.microbatches * self.plan.rows, self.plan.width)
        return gradients, results.sums, {packed: rows}

    def run(self, vector: jax.Array, microbatches: Named) -> Results:
        """All ticks."""
        plan, table = self.plan, self.ticks
        blank = self.blank()
        slots = jax.tree.map(lambda tensor: jnp.zeros((table.slots + 1, *tensor.shape), tensor.dtype), blank)
        results = Results(
            gradients=jnp.zeros(vector.shape, self.master),
            sums={name: jnp.zeros(shape, self.master) for name, shape in plan.sums.items()},
            observed=jnp.zeros((self.schedule.microbatches, plan.rows, plan.width), self.master),
        )
        columns = {name: jnp.asarray(column) for name, column in table.columns.items()}
        body = partial(self.tick, vector, microbatches)
        (_, results), _ = jax.lax.scan(body, (slots, results), columns)
        return results

    def tick(self, vector: jax.Array, microbatches: Named, carry: Any, columns: Named) -> Any:
        """One piece of work on every device, then all messages."""
        (slots, results), row = carry, {name: column[self.pipeline_rank()] for name, column in columns.items()}
        given = Given(
            vector=vector,
            message=jax.tree.map(lambda kept: kept[row["activation"]], slots),
            gradient=slots.floats[row["gradient"]],
            batch={key: value[row["microbatch"]] for key, value in microbatches.items()},
            microbatch=row["microbatch"],
        )
        branches = [partial(self.work, kind, stage) for kind, stage in self.ticks.branches]
        out, results = jax.lax.switch(row["work"], branches, given, results)
        for route in ROUTES:
            arrived = self.moved(route, out, row[f"send_{route}"])
            if arrived is not None:
                slots = jax.tree.map(lambda kept, new, at=row[f"from_{route}"]: kept.at[at].set(new), slots, arrived)
        return (slots, results), None

    def moved(self, route: str, out: Message, is_sent: jax.Array) -> Message | None:
        """What arrives by a route: zeros where the sender had nothing to send that way."""
        sent = jax.tree.map(lambda x: jnp.where(is_sent > 0, x, 0), out)
        if route == STAY:
            return sent
        if self.ranks == 1:
            return None
        return jax.tree.map(lambda x: self.permuted(x, {UP: 1, DOWN: -1}[route]) if x.size else x, sent)

    def permuted(self, x: jax.Array, shift: int) -> jax.Array:
        """To the rank `shift` places up the pipeline axis, around its end."""
        pairs = [(rank, (rank + shift) % self.ranks) for rank in range(self.ranks)]
        return jax.lax.ppermute(x, self.pipeline_axis, pairs)

    # Work.

    def work(self, kind: str, stage: int, given: Given, results: Results) -> tuple[Message, Results]:
        """One piece of work -> what it has for another stage, and the results so far."""
        if not kind:
            return self.blank(), results
        if kind != FORWARD:
            return self.backward_pass(kind, stage, given, results)
        enters, passthrough = self.entering(stage, given.message, given.batch)
        out, seen, new = self.forward_pass(stage, given.vector, enters, passthrough, given.batch)
        sums = {name: value + new.get(name, 0) for name, value in results.sums.items()}
        observed = self.noted(results.observed, stage, given.microbatch, seen)
        return self.message(out, passthrough), results._replace(sums=sums, observed=observed)

    def forward_pass(
        self, stage: int, vector: jax.Array, enters: Named, passthrough: Named, batch: Named
    ) -> tuple[Named, Named, Named]:
        """(activations for the next stage, observations, sums)."""
        p = self.computed_vector.unpacked(vector, self.schedule.holders[stage])
        return self.stage(stage, self.to_compute(p), enters, passthrough | self.at_ends(stage, batch))

    def backward_pass(self, kind: str, stage: int, given: Given, results: Results) -> tuple[Message, Results]:
        """Gradients of what entered the stage, of its parameters, or of both."""
        rank = self.schedule.holders[stage]
        enters, passthrough = self.entering(stage, given.message, given.batch)
        p, batch = self.computed_vector.unpacked(given.vector, rank), passthrough | self.at_ends(stage, given.batch)
        g_p, g_enters = self.pulled_back(kind, partial(self.differentiable, stage, batch), p, enters)(
            self.output_gradients(stage, given.gradient)
        )
        results = results._replace(gradients=self.accumulated(results.gradients, g_p, kind, rank))
        if stage == 0 and g_enters:
            seen = {INPUT_GRADIENTS: g_enters["x"]}
            results = results._replace(observed=self.noted(results.observed, 0, given.microbatch, seen))
        return self.message(g_enters, {}), results

    def differentiable(self, stage: int, batch: Named, p: Named, enters: Named) -> tuple[Named, jax.Array]:
        """What a stage hands on, and its loss (0 but for the last stage): all that a gradient can come from."""
        out, _, sums = self.stage(stage, self.to_compute(p), enters, batch)
        return out, sums.get("loss", jnp.zeros((), self.master))

    def pulled_back(self, kind: str, run: Callable[..., Any], p: Named, enters: Named) -> Callable[..., Any]:
        """Gradients of outputs -> (of parameters, of what entered), empty where this kind of work leaves them out."""
        if kind == INPUT_BACKWARD:
            pull = jax.vjp(partial(run, p), enters)[1]
            return lambda g: ({}, *pull(g))
        if kind == WEIGHT_BACKWARD:
            pull = jax.vjp(lambda p: run(p, enters), p)[1]
            return lambda g: (*pull(g), {})
        return jax.vjp(run, p, enters)[1]

    def output_gradients(self, stage: int, arrived: jax.Array) -> tuple[Named, jax.Array]:
        """What a backward pass begins with: what arrived for the outputs, and 1 for the loss."""
        last = stage == self.schedule.stages - 1
        shapes = {} if last else self.plan.wire.activations[stage + 1]
        gradients = {name: g.astype(self.compute) for name, g in wire.named(arrived, shapes).items()}
        return gradients, jnp.ones((), self.master)

    def accumulated(self, gradients: jax.Array, new: Named, kind: str, rank: int) -> jax.Array:
        """The gradient vector with those of one microbatch added."""
        return self.computed_vector.added(gradients, new, rank)

    # What comes from the batch.

    def from_batch(self, batch: Named) -> tuple[Named, Named]:
        x = {"x": batch["inputs"].astype(self.compute)} if "inputs" in batch else {}
        return x, {key: batch[key].astype(jnp.int32) for key in PASSTHROUGH if key in batch}

    def microbatches(self, batch: Named) -> Named:
        """The rows of a slice, cut into microbatches: [M, b, ...]."""
        number = self.schedule.microbatches
        return {key: jnp.reshape(value, (number, -1, *value.shape[1:])) for key, value in batch.items()}

    # Messages and observations.

    def blank(self) -> Message:
        plan = self.plan.wire
        return Message(jnp.zeros(plan.floats, plan.dtype), jnp.zeros(plan.wholes, jnp.int32))

    def message(self, activations: Named, passthrough: Named) -> Message:
        plan = self.plan.wire
        return Message(wire.flat(activations, plan.floats, plan.dtype), wire.flat(passthrough, plan.wholes, "int32"))

    def entering(self, stage: int, message: Message, batch: Named) -> tuple[Named, Named]:
        """What enters a stage: the first one takes it from the batch, all others from what was sent to them."""
        if stage == 0:
            return self.from_batch(batch)
        plan = self.plan.wire
        return wire.named(message.floats, plan.activations[stage]), wire.named(message.wholes, plan.passthrough)

    def noted(self, observed: jax.Array, stage: int, microbatch: jax.Array, seen: Named) -> jax.Array:
        """The observations with those of one microbatch in their places."""
        block = jnp.zeros((self.plan.rows, self.plan.width), self.master)
        for name, value in seen.items():
            start, shape = self.plan.observed[stage][name]
            flat = value.reshape(len(value), -1).astype(self.master)
            block = block.at[:, start : start + math.prod(shape)].set(flat)
        return observed.at[microbatch].add(block)

    def planned(self, batch: Named) -> Plan:
        """The shapes of everything, from a trace of the stages on one microbatch; nothing is computed."""
        vector = jax.ShapeDtypeStruct((self.computed_vector.length,), self.master)
        enters, passthrough = jax.eval_shape(self.from_batch, batch)
        activations, observed = [], []
        sums: dict[str, tuple[int, ...]] = {}
        for stage in range(self.schedule.stages):
            activations.append({name: tensor.shape for name, tensor in enters.items()})
            run: Callable[..., Any] = partial(self.forward_pass, stage)
            out, seen, added = jax.eval_shape(run, vector, enters, passthrough, batch)
            observed.append({name: tensor.shape[1:] for name, tensor in seen.items()})
            if stage == 0 and enters:
                observed[0][INPUT_GRADIENTS] = enters["x"].shape[1:]
            enters, sums = out, sums | {name: tensor.shape for name, tensor in added.items()}
        shapes = {name: tensor.shape for name, tensor in passthrough.items()}
        found_wire = Wire(activations=tuple(activations), passthrough=shapes, dtype=self.compute)
        places, width = self.places(observed)
        return Plan(wire=found_wire, rows=len(batch["mask"]), observed=places, width=width, sums=sums)

    def places(self, observed: list[dict[str, tuple[int, ...]]]) -> tuple[Places, int]:
        """Where, in what its rank observes of a row, each observation of a stage begins; and the most of any rank."""
        starts: list[dict[str, tuple[int, tuple[int, ...]]]] = []
        ends = [0] * self.ranks
        for stage, shapes in enumerate(observed):
            starts.append({})
            rank = self.schedule.holders[stage]
            for name, shape in shapes.items():
                starts[-1][name], ends[rank] = (ends[rank], shape), ends[rank] + math.prod(shape)
        return tuple(starts), max(ends)
