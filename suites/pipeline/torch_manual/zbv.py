"""ZBV: two chunks on every rank, laid out as a V, and the backward pass cut in two."""

from __future__ import annotations

from suites.pipeline.torch_manual import models


class Perceptron(models.Perceptron):
    schedule = "zbv"


class Convolution(models.Convolution):
    schedule = "zbv"


class LanguageModel(models.LanguageModel):
    schedule = "zbv"
