"""Data parallelism with a remat of its own: the backward pass of a layer computes the layer again from its input."""

from __future__ import annotations

import jax

from suites.data.jax_manual import data_parallel
from suites.training.jax.recompute import Layer
from suites.training.jax.state import Named


class Program(data_parallel.LanguageModel):
    deterministic = False

    def recomputed(self, layer: Layer) -> Layer:
        if not self.recomputes:
            return layer

        def block(x: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
            def run(x: jax.Array, batch: Named, own: Named, deterministic: bool) -> tuple[jax.Array, Named]:
                seen: Named = {}
                before, self.deterministic = self.deterministic, deterministic
                y = layer(x, batch, name, own, seen)
                self.deterministic = before
                return y, seen

            def forward(x: jax.Array, batch: Named, own: Named):
                return run(x, batch, own, deterministic=False), (x, batch, own)

            def backward(kept, g):
                x, batch, own = kept
                _, pull = jax.vjp(lambda x, own: run(x, batch, own, deterministic=True)[0], x, own)
                g_x, g_own = pull(g[0])
                return g_x, None, g_own

            remat = jax.custom_vjp(lambda x, batch, own: run(x, batch, own, deterministic=False))
            remat.defvjp(forward, backward)
            own = {parameter: value for parameter, value in p.items() if parameter.startswith(f"{name}.")}
            y, seen = remat(x, batch, own)
            observed.update(seen)
            return y

        return block

    def dropout(self, x_BSD: jax.Array, site: str, batch: Named, observed: Named) -> jax.Array:
        return x_BSD if self.deterministic else super().dropout(x_BSD, site, batch, observed)
