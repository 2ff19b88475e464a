"""1F1B: one forward and one backward pass in turns."""

from __future__ import annotations

from torch.distributed.pipelining.schedules import Schedule1F1B

from suites.pipeline.torch_pipelining import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Schedule(TorchPipelining):
    """The options of torch's schedule."""

    schedule_name = "1f1b"
    schedule_class = Schedule1F1B
    takes_list = False


class Perceptron(Schedule, models.Perceptron):
    """Linear layers."""


class Convolution(Schedule, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(Schedule, models.LanguageModel):
    """Embedding, decoder layers, head."""
