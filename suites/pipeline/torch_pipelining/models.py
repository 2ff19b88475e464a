"""The models of the pipelines made by hand, their stages run by torch."""

from __future__ import annotations

from suites.pipeline.torch_manual import models
from suites.pipeline.torch_pipelining.training import TorchPipelining


class Perceptron(TorchPipelining, models.Perceptron):
    """Linear layers."""


class Convolution(TorchPipelining, models.Convolution):
    """Convolutions and a linear head."""


class LanguageModel(TorchPipelining, models.LanguageModel):
    """Embedding, decoder layers, head."""
