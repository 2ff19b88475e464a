"""ZBV: two chunks on every rank, laid out as a V, weight gradients deferred."""

from __future__ import annotations

from torch.distributed.pipelining.schedules import ScheduleZBVZeroBubble

from suites.pipeline.torch_pipelining import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Schedule(TorchPipelining):
    """The options of torch's schedule."""

    schedule_name = "zbv"
    schedule_class = ScheduleZBVZeroBubble
    chunks = 2
    splits = True
    style = "v"


class Perceptron(Schedule, models.Perceptron):
    """Linear layers."""


class Convolution(Schedule, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(Schedule, models.LanguageModel):
    """Embedding, decoder layers, head."""
