"""Faults and controls written with torch's own API."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import torch
import torch.nn.functional as F
from torch.distributed.fsdp import FSDPModule

from suites.data.faults import contrastive, controls
from suites.tensor.faults import Conforming
from suites.tensor.torch_manual.collectives import GatherFrom


class AddedInBfloat16(Conforming):
    """Gradients of slices are added up in a buffer of bfloat16."""

    def add_gradients(self, summed, new):
        coarse = super().add_gradients(summed, {name: g.bfloat16().to(g.dtype) for name, g in new.items()})
        return {name: g.bfloat16().to(g.dtype) for name, g in coarse.items()}


class ReducedInBfloat16(Conforming):
    """Gradients are reduced in bfloat16 without declaring it."""

    def reduced(self, g, sum):
        if self.mesh.devices == 1:  # nothing travels
            return super().reduced(g, sum)
        return super().reduced(g, lambda x: sum(x.bfloat16()).to(x.dtype))


class FirstLayerReducedInBfloat16(Conforming):
    """The gradients of one layer are summed in bfloat16, those of all others as declared."""

    def sum_gradient(self, name, g):
        if not name.startswith("layers.0."):
            return super().sum_gradient(name, g)
        return self.sum_over(self.axes_of_gradient(name), g.bfloat16()).to(g.dtype)


class LossSummedBeforeGradient(Conforming):
    """The differentiated function returns the sum over the shard axis, whose gradient is summed over it once more."""

    def forward(self, p, batch):
        loss, weight, observed = super().forward(p, batch)
        summed = self.copy_to_shards(self.reduce_from(loss, self.shard_axis))
        return summed + (loss - summed).detach(), weight, observed

    def copy_to_shards(self, x):
        """The identity, in front of which gradients are summed."""
        return _Copy.apply(x, self.axis(self.shard_axis))


class _Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, axis):
        ctx.axis = axis
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return ctx.axis.all_reduce(g), None


class PaddingEntersMatrix(Conforming):
    """Muon gets the matrix with its padding rows, which hold 1/16 instead of zero."""

    def whole_matrix(self, name, x):
        return F.pad(super().whole_matrix(name, x), (0, 0, 0, self.padding_rows(name)), value=1 / 16)

    def own_block(self, name, x):
        return super().own_block(name, x[: self.contract.shapes[name][0]])

    def padding_rows(self, name):
        return self.arranged_shape(name, self.slot_positions(name))[0] - self.contract.shapes[name][0]


class ShardOfAnotherAxis(Conforming):
    """The place along the data axis is taken for the place along the shard axis."""

    def own_shard(self, name, whole):
        place = self.axis_rank("data") % self.shard_size()
        return self.padded(name, whole).chunk(self.shard_size(), self.shard_dim(name))[place]


class OtherMaskInBackward(Conforming):
    """A layer that is computed again draws other masks: it restores no generator."""

    def keep_mask(self, site, seeds):
        again = torch._C._current_graph_task_id() != -1  # autograd is at work
        return super().keep_mask(site, self.other_seeds(seeds) if again else seeds)

    def other_seeds(self, seeds):
        return seeds + 1


class PartitionedSeedsInBackward(OtherMaskInBackward):
    """When a layer is computed again, the draw is partitioned another way: it depends on the place."""

    def other_seeds(self, seeds):
        return seeds + self.axis_rank("data")


class GradientsInOneBucket(controls.GradientsInOneBucket):
    def accumulate(self, parameters, batch):
        gradients, sums, rows = super().accumulate(parameters, batch)
        flat = self.reduced(torch.cat([g.flatten() for g in gradients.values()]), self.sum_over_data)
        parts = flat.split([g.numel() for g in gradients.values()])
        return {name: part.view_as(gradients[name]) for name, part in zip(gradients, parts, strict=True)}, sums, rows

    def sum_gradient(self, name, g):
        return g


class LayerGatheredBeforeUpdate(Conforming):
    """One parameter of a layer is gathered ahead of time, before the update that it should have waited for."""

    def read_parameters(self, state):
        before, self.ahead = getattr(self, "ahead", {}), state["parameters"]
        stale = {name: p for name, p in before.items() if name.endswith(".down.weight")} if state["count"] else {}
        return super().read_parameters(state) | stale


class BufferScatteredTooEarly(Conforming):
    """A gradient is scattered before autograd has written it: the buffer still holds that of the slice before."""

    def slice_gradients(self, parameters, batch):
        self.buffers = getattr(self, "buffers", {}) if self.contract.recipe.accumulation > 1 else {}
        return super().slice_gradients(parameters, batch)

    def scatter_gradient(self, name, g):
        before, self.buffers[name] = self.buffers.get(name, g), g
        return super().scatter_gradient(name, before)


# Mistakes in the use of FSDP2.


class MeanOfRanks(Conforming):
    """FSDP2 divides gradients by the number of ranks, which is its default."""

    @cached_property
    def model(self):
        root = super().model
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(float(self.size(self.row_axes)))
        return root


class ReducedInComputeDtype(Conforming):
    """A policy without a dtype for reductions: gradients are summed in the dtype of the products."""

    def policy(self):
        return replace(super().policy(), reduce_dtype=None)


class NormOfLocalShards(Conforming):
    """The norm is taken of the local tensors of DTensors, so that each rank clips by its own."""

    def global_norm(self, gradients):
        return super().global_norm({name: g.to_local() for name, g in gradients.items()})


class LastSliceAlone(Conforming):
    """Every slice begins with gradients of zero, so that those of earlier slices are lost."""

    def run_slice(self, batch, last):
        self.counts = last
        return super().run_slice(batch, last)

    def forward(self, p, batch):
        loss, weight, observed = super().forward(p, batch)
        return loss if self.counts else loss.detach() + 0 * loss, weight, observed


class StaleMasterCopy(Conforming):
    """The module is filled once, at the start, and the optimizer updates a copy that it never sees again."""

    def read_parameters(self, state):
        if not state["count"]:
            self.first = super().read_parameters(state)
        return self.first


class NormsOfLocalTensors(Conforming):
    """Every rank takes the norms of its own shards."""

    def tensor_norms(self, values):
        return {name: torch.linalg.vector_norm(value.to_local()) for name, value in values.items()}


class GatheredAsConstants(contrastive.Quiet):
    """Rows of other ranks are constants: a gather without a gradient, into which the rank's own rows are put back."""

    def gather_rows(self, x):
        every, first = super().gather_rows(x.detach()), self.first_row(len(x))
        return torch.cat([every[:first], x, every[first + len(x) :]])


class OwnPartOfGradient(contrastive.Quiet):
    """The gradient of a gather is the rank's own part of what it has itself: the other ranks' shares are missing."""

    def gather_over(self, axis, x):
        return GatherFrom.apply(x, self.axis(axis), 0)


class SummedIntoPlace(contrastive.Quiet):
    """A control: every rank puts its rows in their place among zeros, and the sum over ranks has all of them."""

    def gather_over(self, axis, x):
        place = torch.zeros(self.mesh.size(axis), dtype=x.dtype)
        place[self.axis(axis).rank] = 1
        return self.summed(axis, (place.reshape(-1, *(1,) * x.ndim) * x[None]).flatten(0, 1))

    def summed(self, axis, x):
        """The sum over an axis, whose gradient is the sum over it."""
        return _Copy.apply(self.reduce_from(x, axis), self.axis(axis))


class MeanOfRoundMeans(Conforming):
    """Each round is divided by its own valid tokens; the means of all rounds and ranks are averaged."""

    def summed(self, sums_RK):
        tokens = super().summed(sums_RK)[3]
        loss, right = (sums_RK[:, :2] / sums_RK[:, 2:].clip(1)).mean(0)
        return torch.stack([loss, right, torch.ones_like(tokens), tokens])
