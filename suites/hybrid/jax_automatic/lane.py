"""The step of one rank of a pipeline as one program, in the order of its schedule: what is compiled at production size.

Warm-up, steady state, cool-down and update, with as many slots as microbatches live. It is compiled and never run: what
the rank hands on arrives there again, in the place of what its neighbours send, which has the same shape.
M: slots  L: layers of the rank  B: rows of a microbatch  S: tokens  D: hidden
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import jax
import jax.numpy as jnp

from conformance.contract.contract import Contract
from conformance.contract.mesh import Mesh
from suites.hybrid.budget_stages import Part
from suites.hybrid.jax_automatic import production
from suites.hybrid.jax_automatic.stacked import behind
from suites.hybrid.jax_automatic.stage import Kept, Stage
from suites.pipeline.schedule import FORWARD, Schedule
from suites.training.jax.state import Named


class Turn(NamedTuple):
    """What goes from one piece of work to the next: slots, gradients and sums so far, what was handed on last."""

    slots: Kept
    gradients: Named
    sums: Named
    up: jax.Array
    down: jax.Array


class Lane(Stage, production.LanguageModel):
    """All work of a rank in one step."""

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str, part: Part, schedule: Schedule) -> None:
        super().__init__(contract, mesh, dtype, part)
        self.schedule = schedule

    @cached_property
    def orders(self) -> tuple[list[int], list[int]]:
        """Microbatches as they go forward, and as they come back."""
        lane = self.schedule.lanes[self.part.rank]
        kinds = [work.kind == FORWARD for work in lane]
        both = [[w.microbatch for w, kind in zip(lane, kinds, strict=True) if kind is way] for way in (True, False)]
        return both[0], both[1]

    @property
    def slots(self) -> int:
        """Microbatches that live at once: those that have gone forward before the first comes back."""
        lane = self.schedule.lanes[self.part.rank]
        return next(place for place, work in enumerate(lane) if work.kind != FORWARD)

    def whole_step(self, state: dict, batch: Named) -> tuple[dict, Named]:
        batch = {key: self.constrain(value, self.batch_placements(key)) for key, value in batch.items()}
        parameters, weight = state["parameters"], jnp.sum(batch["mask"].astype(self.master))
        turn = self.worked(parameters, self.dealt_batch(batch))
        gradients, squares = self.mean_gradients(turn.gradients, weight)
        norm = jnp.sqrt(squares)
        observed = {name: self.constrain(value / weight, {}) for name, value in turn.sums.items()}
        return self.updated(state, gradients, norm), observed | {"metrics/grad_norm": norm}

    def worked(self, parameters: Named, rows: Named) -> Turn:
        """Every piece of work, in order."""
        forwards, backwards = (jnp.asarray(order, "int32") for order in self.orders)
        early, narrow = self.slots - 1, self.to_compute(self.wide(parameters))  # narrowed once for all work

        def forward(turn: Turn, at: jax.Array) -> tuple[Turn, None]:
            handed_BSD, kept = self.forward_pass(narrow, turn.up, self.microbatch(rows, at))
            slots = jax.tree.map(lambda slots, new: slots.at[at % self.slots].set(new), turn.slots, kept)
            return turn._replace(slots=slots, up=handed_BSD), None

        def backward(turn: Turn, at: jax.Array) -> tuple[Turn, None]:
            kept = jax.tree.map(lambda slots: slots[at % self.slots], turn.slots)
            given = narrow, kept, turn.down, self.microbatch(rows, at), turn.gradients
            done = self.backward_pass(*given)
            sums = {name: value + done.sums[name] for name, value in turn.sums.items()}
            return turn._replace(gradients=done.gradients, sums=sums, down=done.gradient), None

        def both(turn: Turn, at: tuple[jax.Array, jax.Array]) -> tuple[Turn, None]:
            return backward(forward(turn, at[0])[0], at[1])

        turn, _ = jax.lax.scan(forward, self.first_turn(parameters, rows), forwards[:early])
        turn, _ = jax.lax.scan(both, turn, (forwards[early:], backwards[: len(backwards) - early]))
        return jax.lax.scan(backward, turn, backwards[len(backwards) - early :])[0]

    def microbatch(self, rows: Named, at: jax.Array) -> Named:
        return {key: value[at] for key, value in rows.items()}

    def first_turn(self, parameters: Named, rows: Named) -> Turn:
        blank_BSD = self.blank(self.microbatch(rows, jnp.asarray(0)))
        entered = jnp.zeros((self.slots, self.part.layers, *blank_BSD.shape), blank_BSD.dtype)
        left = jnp.zeros((self.slots, *blank_BSD.shape), blank_BSD.dtype)
        names = ("loss", "weight", "metrics/cross_entropy", "metrics/z_loss") if self.part.is_last else ()
        once = {axis: behind(placement) for axis, placement in self.stream_placements().items()}
        twice = {axis: behind(placement) for axis, placement in once.items()}
        return Turn(
            slots=Kept(self.constrain(entered, twice), self.constrain(left, once) if self.part.is_last else None),
            gradients=self.kept_apart(self.no_gradients(parameters)),
            sums=dict.fromkeys(names, jnp.zeros((), self.master)),
            up=blank_BSD,
            down=blank_BSD,
        )
