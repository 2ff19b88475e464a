"""Interleaved 1F1B: two chunks of the model on every rank."""

from __future__ import annotations

from torch.distributed.pipelining.schedules import ScheduleInterleaved1F1B

from suites.pipeline.torch_pipelining import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Schedule(TorchPipelining):
    """The options of torch's schedule."""

    schedule_name = "interleaved"
    schedule_class = ScheduleInterleaved1F1B
    chunks = 2


class Perceptron(Schedule, models.Perceptron):
    """Linear layers."""


class Convolution(Schedule, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(Schedule, models.LanguageModel):
    """Embedding, decoder layers, head."""
