"""Interleaved 1F1B: two chunks of the model on every rank."""

from __future__ import annotations

from suites.pipeline.jax_manual import models


class Perceptron(models.Perceptron):
    schedule_name = "interleaved"


class Convolution(models.Convolution):
    schedule_name = "interleaved"


class LanguageModel(models.LanguageModel):
    schedule_name = "interleaved"
