"""ZBV: two chunks on every rank, laid out as a V, and the backward pass cut in two."""

from __future__ import annotations

from suites.pipeline.torch_manual import models


class Perceptron(models.Perceptron):
    schedule_name = "zbv"


class Convolution(models.Convolution):
    schedule_name = "zbv"


class LanguageModel(models.LanguageModel):
    schedule_name = "zbv"
