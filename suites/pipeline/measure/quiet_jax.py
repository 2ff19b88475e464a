"""JAX pipelines that observe nothing but the loss, so that their memory is that of training."""

from __future__ import annotations

from suites.pipeline.jax_manual.models import Perceptron
from suites.training.jax.state import Named


class Quiet(Perceptron):
    def stage(self, stage: int, p: Named, x: Named, batch: Named) -> tuple[Named, Named, Named]:
        out, _, sums = super().stage(stage, p, x, batch)
        return out, {}, sums


class GPipe(Quiet):
    schedule_name = "gpipe"


class OneFOneB(Quiet):
    schedule_name = "1f1b"


class Interleaved(Quiet):
    schedule_name = "interleaved"


class ZeroBubble(Quiet):
    schedule_name = "zb-h1"


class ZBV(Quiet):
    schedule_name = "zbv"
