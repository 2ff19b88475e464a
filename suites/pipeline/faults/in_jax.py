"""Faults whose mixin differs between JAX and torch, or that exist in JAX only."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import jax
import jax.numpy as jnp

from suites.pipeline.schedule import FORWARD
from suites.tensor.faults import Conforming


class TiedHeadNotLoaded(Conforming):
    """The last stage does not load the embedding, which belongs to layers that it does not have."""

    def packed(self, canonical):
        vectors = super().packed(canonical)
        size, last = sum(map(self.stored_vector.size, self.tied)), self.owners[self.tied[0]][-1]
        dim = self.pack_axes.index(self.pipeline_axis)
        vectors[(slice(None),) * dim + (last, ..., slice(0, size))] = 0.125
        return vectors


class TiedCountedTwice(Conforming):
    """Both copies of the tied embedding enter the norm."""

    def block_norm(self, name, block, rank):
        return super().block_norm(name, block, self.owners[name][0])


class LabelsOfAnotherMicrobatch(Conforming):
    """The last stage takes the labels of the microbatch before."""

    def microbatches(self, batch):
        right = super().microbatches(batch)
        return {**right, "targets": jnp.roll(right["targets"], 1, axis=0)}


class MessagesToWrongPeer(Conforming):
    """Every message goes one rank too far."""

    def permuted(self, x, shift):
        return super().permuted(x, shift + 1)


class ChunksSwapped(Conforming):
    """Microbatches beyond the first round pass the two chunks of a rank in the wrong order."""

    @cached_property
    def timed_schedule(self):
        table = super().timed_schedule
        return replace(table, events=tuple(self.swapped(event) for event in table.events))

    def swapped(self, event):
        if event.kind != FORWARD or event.microbatch < self.ranks:
            return event
        return replace(event, stage=(event.stage + self.ranks) % self.schedule.stages)


class SkipGradientDropped(Conforming):
    """Skip tensors that pass through a stage get no gradient."""

    def stage(self, stage, p, x, batch):
        passing = {name: jax.lax.stop_gradient(value) for name, value in x.items() if name != "x"}
        return super().stage(stage, p, {**x, **passing}, batch)


class ActivationsOverwritten(Conforming):
    """A stage keeps one activation for all microbatches: later activations are not stored."""

    @cached_property
    def ticks(self):
        right = super().ticks
        columns = dict(right.columns)
        columns["activation"] = columns["activation"] * 0
        return replace(right, columns=columns)
