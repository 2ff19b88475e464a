"""Faults of recomputation and of loading, written with JAX's own API."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from suites.data.faults import resuming
from suites.tensor.faults import Conforming
from suites.training.jax import archive


class OtherwiseInBackward(Conforming):
    """The recomputed layer is another function: the value is the original's, the gradient the other one's."""

    def recomputed(self, layer):
        twice = super().recomputed(layer)
        return self.of_two(twice) if self.recomputes else twice

    def of_two(self, layer):
        def run(x, batch, name, p, observed):
            y = layer(x, batch, name, p, observed)
            again = layer(self.again(x), batch, name, p | self.parameters_again(p), {})
            return again + jax.lax.stop_gradient(y - again)

        return run

    def again(self, x):
        return x

    def parameters_again(self, p):
        return p


class CoarseInBackward(OtherwiseInBackward):
    """A layer is computed again outside of the context that set its dtype: from bfloat16 values."""

    def again(self, x):
        return x.astype(jnp.bfloat16).astype(x.dtype)

    def parameters_again(self, p):
        return {name: self.again(value) for name, value in p.items()}


class GradientOfScalesDropped(OtherwiseInBackward):
    """Keyword arguments of a recomputed layer are treated as constants: scales get no gradient."""

    def parameters_again(self, p):
        return {name: jax.lax.stop_gradient(value) for name, value in p.items() if name.endswith(".scale")}


class GatheredOverDataInBackward(OtherwiseInBackward):
    """The input of a layer is kept in parts, one on each tensor rank, and the parts of the data ranks are gathered."""

    def again(self, x):
        width = x.shape[2] // self.mesh.size("tensor")
        part = jax.lax.dynamic_slice_in_dim(x, self.axis_rank("tensor") * width, width, 2)
        mixed = jax.lax.all_gather(jax.lax.stop_gradient(part), "data", axis=2, tiled=True)
        return x + jax.lax.stop_gradient(mixed - x)


class Loading(Conforming):
    """Canonical arrays pass through `as_loaded` on their way from the checkpoint to the devices."""

    loads = False

    def load(self, folder, mesh):
        self.loads = True
        return super().load(folder, mesh)

    def laid_out(self, state):
        if self.loads:
            parameters = {name: self.as_loaded(whole) for name, whole in state["parameters"].items()}
            state = state | {"parameters": parameters}
        return super().laid_out(state)


class FirstShardLoaded(resuming.FirstShardLoaded, Loading):
    """See there."""


class DealtOut(resuming.DealtOut, Loading):
    """See there."""


class DigestsNotCompared(Conforming):
    """Digests are computed from the data that was read, not from the data that was written."""

    def load(self, folder, mesh):
        archive._seal(archive._restored(self.saved_kinds(), folder.absolute()), folder)
        return super().load(folder, mesh)
