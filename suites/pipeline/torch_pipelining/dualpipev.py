"""DualPipeV: two chunks on every rank, laid out as a V, forward and backward passes side by side."""

from __future__ import annotations

from torch.distributed.pipelining.schedules import ScheduleDualPipeV

from suites.pipeline.torch_pipelining import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Schedule(TorchPipelining):
    """The options of torch's schedule."""

    schedule_name = "dualpipev"
    schedule_class = ScheduleDualPipeV
    chunks = 2
    splits = True
    style = "v"


class Perceptron(Schedule, models.Perceptron):
    """Linear layers."""


class Convolution(Schedule, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(Schedule, models.LanguageModel):
    """Embedding, decoder layers, head."""
