"""1F1B: one forward and one backward pass in turns."""

from __future__ import annotations

from suites.pipeline.torch_manual import models


class Perceptron(models.Perceptron):
    schedule_name = "1f1b"


class Convolution(models.Convolution):
    schedule_name = "1f1b"


class LanguageModel(models.LanguageModel):
    schedule_name = "1f1b"
