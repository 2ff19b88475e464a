"""Faults and controls written with JAX's own API."""

from __future__ import annotations

from itertools import accumulate

import jax
import jax.numpy as jnp

from suites.data.faults import contrastive, controls
from suites.tensor.faults import Conforming
from suites.tensor.jax_manual.collectives import gather_from


class AddedInBfloat16(Conforming):
    """Gradients of slices are added up in a buffer of bfloat16."""

    def add_gradients(self, summed, new):
        return _coarse(super().add_gradients(summed, _coarse(new)))


def _coarse(gradients):
    return {name: g.astype(jnp.bfloat16).astype(g.dtype) for name, g in gradients.items()}


class ReducedInBfloat16(Conforming):
    """Gradients are reduced in bfloat16 without declaring it."""

    def reduced(self, g, sum):
        if self.mesh.devices == 1:  # nothing travels
            return super().reduced(g, sum)
        return super().reduced(g, lambda x: sum(x.astype(jnp.bfloat16)).astype(x.dtype))


class FirstLayerReducedInBfloat16(Conforming):
    """The gradients of one layer are summed in bfloat16, those of all others as declared."""

    def sum_gradient(self, name, g):
        if not name.startswith("layers.0."):
            return super().sum_gradient(name, g)
        return self.sum_over(self.axes_of_gradient(name), g.astype(jnp.bfloat16)).astype(g.dtype)


class LossSummedBeforeGradient(Conforming):
    """The differentiated function returns the sum over the shard axis, whose gradient is summed over it once more."""

    def forward(self, p, batch):
        loss, weight, observed = super().forward(p, batch)
        summed = jax.lax.psum(loss, self.shard_axis)
        return summed + jax.lax.stop_gradient(loss - summed), weight, observed


class PaddingEntersMatrix(Conforming):
    """Muon gets the matrix with its padding rows, which hold 1/16 instead of zero."""

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
        """Seeds of a random generator that was not restored."""
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


class GatheredAsConstants(contrastive.Quiet):
    """Rows of other ranks are constants: a gather without a gradient, into which the rank's own rows are put back."""

    def gather_rows(self, x):
        every, first = super().gather_rows(jax.lax.stop_gradient(x)), self.first_row(len(x))
        return jax.lax.dynamic_update_slice_in_dim(every, x, first, 0)


class OwnPartOfGradient(contrastive.Quiet):
    """The gradient of a gather is the rank's own part of what it has itself: the other ranks' shares are missing."""

    def gather_over(self, axis, x):
        return gather_from(x, axis, 0) if self.mesh.size(axis) > 1 else x


class SummedIntoPlace(contrastive.Quiet):
    """A control: every rank puts its rows in their place among zeros, and the sum over ranks has all of them."""

    def gather_over(self, axis, x):
        size = self.mesh.size(axis)
        place = jax.nn.one_hot(self.axis_rank(axis), size, dtype=x.dtype).reshape(size, *(1,) * x.ndim)
        spread = (place * x[None]).reshape(size * x.shape[0], *x.shape[1:])
        return jax.lax.psum(spread, axis) if size > 1 else x


class MeanOfRoundMeans(Conforming):
    """Each round is divided by its own valid tokens; the means of all rounds and ranks are averaged."""

    def summed(self, sums_RK):
        tokens = super().summed(sums_RK)[3]
        loss, right = (sums_RK[:, :2] / sums_RK[:, 2:].clip(1)).mean(0)
        return jnp.stack([loss, right, jnp.ones_like(tokens), tokens])
