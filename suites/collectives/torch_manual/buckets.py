"""Combined gradient sums in torch: after the backward pass, or begun inside it by hooks."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from suites.collectives.bucket_budget import AFTER_BACKWARD, INSIDE_BACKWARD
from suites.collectives.buckets import Bucketed
from suites.collectives.torch_manual.joint_axis import JointAxis
from suites.data.torch_manual import data_parallel
from suites.training.step_budget import Budgets
from suites.training.torch.manual import CollectiveTraining
from suites.training.torch.state import Named, dtype_of


class InBuckets(Bucketed, CollectiveTraining):
    """The sum of a bucket: its gradients laid end to end, one all-reduce, and cut again."""

    @cached_property
    def joint_data(self) -> JointAxis:
        """The axes of the data as one."""
        axes = (axis for axis in self.mesh.axes if axis in self.gradient_axes and self.mesh.size(axis) > 1)
        return JointAxis.over(self.device_mesh, tuple(axes))

    def flat(self, gradients: Named) -> Tensor:
        """The gradients of a bucket in its order, in the dtype that is declared for their sums."""
        return torch.cat([g.to(dtype_of(self.reduction_dtype)).reshape(-1) for g in gradients.values()])

    def cut(self, flat: Tensor, like: Named) -> Named:
        parts = flat.split([g.numel() for g in like.values()])
        return {
            name: part.reshape(like[name].shape).to(like[name].dtype) for name, part in zip(like, parts, strict=True)
        }


class AfterBackward(InBuckets):
    """All buckets are summed when the backward pass of the whole batch is done."""

    sends: ClassVar[Budgets] = AFTER_BACKWARD

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        gradients, sums, rows = super().accumulate(parameters, batch)
        summed: Named = {}
        for names in self.buckets:
            summed |= self.summed_bucket({name: gradients[name] for name in names})
        return {name: self.round_gradient(summed[name]) for name in gradients}, sums, rows

    def summed_bucket(self, gradients: Named) -> Named:
        return self.cut(self.joint_data.all_reduce(self.flat(gradients)), gradients)


class InsideBackward(InBuckets):
    """A hook on every parameter; when the last gradient of a bucket is there, its all-reduce begins, and the backward
    pass goes on. What is under way is waited for at the end.

    Law: all ranks begin buckets in the same order, whatever order their gradients come in. With accumulated slices each
    slice is summed by itself, as DistributedDataParallel does without `no_sync`.
    """

    sends: ClassVar[Budgets] = INSIDE_BACKWARD

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        self.ready: Named = {}
        self.under_way: list[tuple[Named, Tensor, Any]] = []
        gradients, sums, rows = super().slice_gradients(parameters, batch)
        self.ready = gradients | self.ready  # a parameter that nothing used has no hook called
        self.begin_ready_buckets()
        return {name: self.round_gradient(g) for name, g in self.finished(gradients).items()}, sums, rows

    def to_compute(self, parameters: Named) -> Named:
        """The leaves on their way into the model: their gradients are noted."""
        for name, leaf in parameters.items():
            leaf.register_hook(partial(self.note, name))
        return super().to_compute(parameters)

    def note(self, name: str, g: Tensor) -> None:
        self.ready[name] = g.detach()
        self.begin_ready_buckets()

    def begin_ready_buckets(self) -> None:
        """In the order of the buckets, as far as all their gradients are there."""
        while len(self.under_way) < len(self.buckets):
            names = self.buckets[len(self.under_way)]
            if not self.is_ready(names):
                return
            self.under_way.append(self.begun({name: self.ready[name] for name in names}))

    def is_ready(self, names: tuple[str, ...]) -> bool:
        return all(name in self.ready for name in names)

    def begun(self, gradients: Named) -> tuple[Named, Tensor, Any]:
        """(gradients, their bucket, what its sum is waited for by)."""
        flat = self.flat(gradients)
        if self.joint_data.size == 1:
            return gradients, flat, None
        return gradients, flat, dist.all_reduce(flat, group=self.joint_data.group, async_op=True)

    def finished(self, gradients: Named) -> Named:
        """In the order of the parameters, when everything under way has arrived."""
        summed: Named = {}
        for parts, flat, work in self.under_way:
            if work is not None:
                work.wait()
            summed |= self.cut(flat, parts)
        return {name: summed[name] for name in gradients}


class Linear(AfterBackward, data_parallel.Linear):
    """One linear layer."""


class LanguageModel(AfterBackward, data_parallel.LanguageModel):
    """The decoder language model."""


class OverlappedLinear(InsideBackward, data_parallel.Linear):
    """One linear layer."""


class OverlappedLanguageModel(InsideBackward, data_parallel.LanguageModel):
    """The decoder language model."""
