"""The models that have mixtures, whatever way their tokens are exchanged.

B: rows  S: tokens  D: hidden
"""

from __future__ import annotations

import jax

from suites.tensor.jax_manual.transformer import DecoderLayers
from suites.training.jax.losses import QuadraticLoss
from suites.training.jax.state import Named


class Alone(QuadraticLoss, DecoderLayers):
    """One mixture by itself."""

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        observed: Named = {}
        y_BSD = self.fed(batch["inputs"].astype(self.compute), batch, "moe", p, observed)
        return *self.quadratic(y_BSD, batch), observed | {"outputs/y": y_BSD}
