"""Faults and controls that need JAX's own words."""

from __future__ import annotations

from itertools import accumulate

import jax
import jax.numpy as jnp

from suites.data.faults import controls
from suites.tensor.faults import Conforming


class AddedInBfloat16(Conforming):
    """Gradients of slices are added up in a buffer of bfloat16."""

    def add_gradients(self, summed, new):
        return _coarse(super().add_gradients(summed, _coarse(new)))


def _coarse(gradients):
    return {name: g.astype(jnp.bfloat16).astype(g.dtype) for name, g in gradients.items()}


class ReducedInBfloat16(Conforming):
    """Gradients travel in bfloat16, and nobody said so."""

    def reduced(self, g, sum):
        if self.mesh.devices == 1:  # nothing travels
            return super().reduced(g, sum)
        return super().reduced(g, lambda x: sum(x.astype(jnp.bfloat16)).astype(x.dtype))


class LossSummedBeforeGradient(Conforming):
    """The differentiated function returns the sum over the shard axis, whose gradient is summed over it once more."""

    def forward(self, p, batch):
        loss, weight, observed = super().forward(p, batch)
        summed = jax.lax.psum(loss, self.shard_axis)
        return summed + jax.lax.stop_gradient(loss - summed), weight, observed


class PaddingEntersMatrix(Conforming):
    """Muon is given the matrix as it is stored, and what fills up its last rows is not zero but 1/16."""

    def whole_matrix(self, name, x):
        whole = super().whole_matrix(name, x)
        return jnp.pad(whole, ((0, self.padding_rows(name)), (0, 0)), constant_values=1 / 16)

    def own_block(self, name, x):
        return super().own_block(name, x[: self.contract.shapes[name][0]])

    def padding_rows(self, name):
        return self.arranged_shape(name, self.slot_positions(name))[0] - self.contract.shapes[name][0]


class ShardOfAnotherAxis(Conforming):
    """The place along the data axis is taken for the place along the shard axis."""

    def own_shard(self, name, whole):
        dim, place = self.shard_dim(name), self.axis_rank("data") % self.shard_size()
        padding = [(0, -n % self.shard_size() if d == dim else 0) for d, n in enumerate(whole.shape)]
        width = -(-whole.shape[dim] // self.shard_size())
        return jax.lax.dynamic_slice_in_dim(jnp.pad(whole, padding), place * width, width, dim)


class OtherMaskInBackward(Conforming):
    """A layer that is computed again draws other masks."""

    def dropout(self, x, site, batch, observed):
        y = super().dropout(x, site, batch, observed)
        if not self.recomputes:
            return y
        again = super().dropout(x, site, batch | {"seeds": self.other_seeds(batch["seeds"])}, {})
        return again + jax.lax.stop_gradient(y - again)

    def other_seeds(self, seeds):
        """Without restoring the generator."""
        return seeds + 1


class PartitionedSeedsInBackward(OtherMaskInBackward):
    """When a layer is computed again, the draw is partitioned another way: it depends on the place."""

    def other_seeds(self, seeds):
        return seeds + self.axis_rank("data")


class GradientsInOneBucket(controls.GradientsInOneBucket):
    def accumulate(self, parameters, batch):
        gradients, sums, rows = super().accumulate(parameters, batch)
        with jax.named_scope("update"):
            flat = self.reduced(jnp.concatenate([g.reshape(-1) for g in gradients.values()]), self.sum_over_data)
        parts = jnp.split(flat, list(accumulate(g.size for g in gradients.values()))[:-1])
        whole = {name: part.reshape(g.shape) for part, (name, g) in zip(parts, gradients.items(), strict=True)}
        return whole, sums, rows

    def sum_gradient(self, name, g):
        return g
