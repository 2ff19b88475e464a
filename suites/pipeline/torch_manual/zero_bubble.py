"""ZB-H1: weight gradients are deferred until a rank has no other work."""

from __future__ import annotations

from suites.pipeline.torch_manual import models


class Perceptron(models.Perceptron):
    schedule_name = "zb-h1"


class Convolution(models.Convolution):
    schedule_name = "zb-h1"


class LanguageModel(models.LanguageModel):
    schedule_name = "zb-h1"
