"""GPipe: all forward passes, then all backward passes."""

from __future__ import annotations

from torch.distributed.pipelining.schedules import ScheduleGPipe

from suites.pipeline.torch_pipelining import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Schedule(TorchPipelining):
    """The options of torch's schedule."""

    schedule_name = "gpipe"
    schedule_class = ScheduleGPipe
    takes_list = False


class Perceptron(Schedule, models.Perceptron):
    """Linear layers."""


class Convolution(Schedule, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(Schedule, models.LanguageModel):
    """Embedding, decoder layers, head."""
