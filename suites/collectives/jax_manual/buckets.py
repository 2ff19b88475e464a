"""Combined gradient sums in JAX: after the backward pass, or inside it."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from reference.jax.rounding import rounded
from suites.collectives.bucket_budget import AFTER_BACKWARD, INSIDE_BACKWARD
from suites.collectives.buckets import Bucketed
from suites.data.jax_manual import data_parallel
from suites.training.jax.manual import ShardMapTraining
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets


class InBuckets(Bucketed, ShardMapTraining):
    """The sum of a bucket: its gradients laid end to end, one `psum`, and cut again."""

    def summed_bucket(self, gradients: Named) -> Named:
        """Gradients of a bucket -> their sums over the data, in the dtype that is declared for that."""
        flat = jnp.concatenate([rounded(g, self.reduction_dtype).reshape(-1) for g in gradients.values()])
        return self.cut(self.sum_over(self.gradient_axes, flat), gradients)

    def cut(self, flat: jax.Array, like: Named) -> Named:
        """The parts of a bucket, in its order."""
        parts, start = {}, 0
        for name, g in like.items():
            parts[name] = flat[start : start + g.size].reshape(g.shape).astype(g.dtype)
            start += g.size
        return parts


class AfterBackward(InBuckets):
    """All buckets are summed when the backward pass of the whole batch is done."""

    sends: ClassVar[Budgets] = AFTER_BACKWARD

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        gradients, sums, rows = super().accumulate(parameters, batch)
        with jax.named_scope("update"):
            summed: Named = {}
            for names in self.buckets:
                summed |= self.summed_bucket({name: gradients[name] for name in names})
        return {name: self.round_gradient(summed[name]) for name in gradients}, sums, rows


class InsideBackward(InBuckets):
    """The parameters of a bucket pass an identity, whose gradient is the sum over the data: it stands in the backward
    pass where the last gradient of the bucket is made, and waits for none of the others.

    What is behind it needs no bucket that comes later, so a compiler may let both run at once. With accumulated slices
    each slice is summed by itself, as DistributedDataParallel does without `no_sync`.
    """

    sends: ClassVar[Budgets] = INSIDE_BACKWARD

    def to_compute(self, parameters: Named) -> Named:
        passed: Named = {}
        for names in self.buckets:
            passed |= self.sum_in_backward({name: parameters[name] for name in names})
        return super().to_compute({name: passed[name] for name in parameters})

    def sum_in_backward(self, parameters: Named) -> Named:
        passed = jax.custom_vjp(lambda p: p)
        passed.defvjp(lambda p: (p, None), lambda _, g: (self.summed_bucket({name: g[name] for name in parameters}),))
        return passed(parameters)


class Linear(AfterBackward, data_parallel.Linear):
    """One linear layer."""


class LanguageModel(AfterBackward, data_parallel.LanguageModel):
    """The decoder language model."""


class OverlappedLinear(InsideBackward, data_parallel.Linear):
    """One linear layer."""


class OverlappedLanguageModel(InsideBackward, data_parallel.LanguageModel):
    """The decoder language model."""
