"""Breadth-first: two chunks on every rank, all microbatches through the one before the other."""

from __future__ import annotations

from torch.distributed.pipelining.schedules import ScheduleLoopedBFS

from suites.pipeline.torch_pipelining import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Schedule(TorchPipelining):
    """The options of torch's schedule."""

    schedule_name = "looped-bfs"
    schedule_class = ScheduleLoopedBFS
    chunks = 2


class Perceptron(Schedule, models.Perceptron):
    """Linear layers."""


class Convolution(Schedule, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(Schedule, models.LanguageModel):
    """Embedding, decoder layers, head."""
