"""GPipe: all forward passes, then all backward passes."""

from __future__ import annotations

from suites.pipeline.jax_manual import models


class Perceptron(models.Perceptron):
    schedule_name = "gpipe"


class Convolution(models.Convolution):
    schedule_name = "gpipe"


class LanguageModel(models.LanguageModel):
    schedule_name = "gpipe"
