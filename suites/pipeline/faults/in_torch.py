"""Faults whose mixin differs between torch and JAX, or that exist in torch only."""

from __future__ import annotations

import torch

from suites.pipeline.schedule import ACTIVATION
from suites.tensor.faults import Conforming


class TiedHeadNotLoaded(Conforming):
    """The last stage does not load the embedding, which belongs to layers that it does not have."""

    def state(self, parameters):
        right = super().state(parameters)
        for name in self.tied:
            if self.pipeline_rank == self.owners[name][-1]:
                right["parameters"][name] = torch.full_like(right["parameters"][name], 0.125)
        return right


class TiedCountedTwice(Conforming):
    """Both copies of the tied embedding enter the norm."""

    def squared_norm(self, name, g):
        return (g * g).sum() if name in self.tied else super().squared_norm(name, g)


class LabelsOfAnotherMicrobatch(Conforming):
    """The last stage takes the labels of the microbatch before."""

    def microbatches(self, batch):
        right = super().microbatches(batch)
        return [{**part, "targets": right[number - 1]["targets"]} for number, part in enumerate(right)]


class ActivationsOverwritten(Conforming):
    """A stage keeps one activation for all microbatches of a step: all of them see the first one."""

    def receive(self, event, now):
        super().receive(event, now)
        if event.what == ACTIVATION:
            self.first = now.messages.get((ACTIVATION, event.stage, 0), getattr(self, "first", None))
            now.messages[ACTIVATION, event.stage, event.microbatch] = self.first


class SkipGradientDropped(Conforming):
    """Skip tensors that pass through a stage get no gradient."""

    def output_gradients(self, passed, arrived):
        dropped = {name: g if name == "x" else torch.zeros_like(g) for name, g in arrived.items()}
        return super().output_gradients(passed, dropped)
