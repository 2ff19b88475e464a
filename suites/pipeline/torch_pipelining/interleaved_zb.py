"""Interleaved zero bubble: two chunks on every rank, weight gradients deferred."""

from __future__ import annotations

from torch.distributed.pipelining.schedules import ScheduleInterleavedZeroBubble

from suites.pipeline.torch_pipelining import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Schedule(TorchPipelining):
    """The options of torch's schedule."""

    schedule_name = "interleaved-zb"
    schedule_class = ScheduleInterleavedZeroBubble
    chunks = 2
    splits = True


class Perceptron(Schedule, models.Perceptron):
    """Linear layers."""


class Convolution(Schedule, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(Schedule, models.LanguageModel):
    """Embedding, decoder layers, head."""
