"""ZB-H1: gradients of weights are put off until there is nothing better to do."""

from __future__ import annotations

from suites.pipeline.jax_manual import models


class Perceptron(models.Perceptron):
    schedule_name = "zb-h1"


class Convolution(models.Convolution):
    schedule_name = "zb-h1"


class LanguageModel(models.LanguageModel):
    schedule_name = "zb-h1"
