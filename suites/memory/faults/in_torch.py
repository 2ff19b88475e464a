"""Faults and controls written with torch's own API."""

from __future__ import annotations

from dataclasses import replace

import torch

from suites.memory.torch_manual.spilling import Spilled
from suites.tensor.faults import Conforming
from suites.training.torch.recompute import recomputing


def at_work() -> bool:
    """Whether autograd runs a backward pass, so that what is computed now is computed again."""
    return torch._C._current_graph_task_id() != -1


class SumLostInBackward(Conforming):
    """A layer that is computed again leaves out its sums over the tensor axis."""

    def reduce_from_tensor(self, x):
        return x.clone() if at_work() else super().reduce_from_tensor(x)


class StateNotDonated(Conforming):
    """The new state gets a memory of its own, though it is declared to take over that of the old one."""

    def written(self, old, new):
        return new


class BufferReusedTooEarly(Conforming):
    """The gradients of all slices are written to the same buffers, before those of the first one are added up."""

    def slice_gradients(self, parameters, batch):
        gradients, sums, rows = super().slice_gradients(parameters, batch)
        buffers = self.__dict__.setdefault("buffers", {name: torch.empty_like(g) for name, g in gradients.items()})
        return {name: buffers[name].copy_(g) for name, g in gradients.items()}, sums, rows


class StaleHostBuffer(Conforming):
    """What returns from host memory is what the step before put there, since the copy has not arrived yet."""

    def step(self, state, batch):
        self.before, self.now = self.__dict__.get("now", []), []
        return super().step(state, batch)

    def put_away(self, saved, stays):
        kept = super().put_away(saved, stays)
        if not isinstance(kept, Spilled):
            return kept
        self.now.append(kept)
        place = len(self.now) - 1
        return self.before[place] if place < len(self.before) else kept


class RecomputedTwice(Conforming):
    """A control: a layer that is computed again lies in another one that is."""

    def recomputed(self, layer):
        return recomputing(super().recomputed(layer))

    def declare(self):
        return replace(super().declare(), traffic=None)
