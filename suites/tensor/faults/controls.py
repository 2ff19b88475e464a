"""Negative controls: unusual but correct programs."""

from __future__ import annotations

from dataclasses import replace

from suites.tensor.faults import Conforming
from suites.training.traffic import Transfer


class BiasOfFirstRank(Conforming):
    """The first rank alone adds the bias, before the sum; its gradient is summed from there."""

    def row_linear(self, x, name, p):
        bias = self.copy_to_tensor(p[f"{name}.bias"]) * (self.tensor_rank() == 0)
        return self.leave_block(x @ p[f"{name}.weight"] + bias)

    def transfers(self):
        yield from super().transfers()
        yield Transfer(
            kind="all_reduce",
            axes=("tensor",),
            phase="backward",
            elements=self.contract.model.hidden,
            dtype="float64",
            calls=self.contract.recipe.accumulation,
        )


class NormOfNorms(Conforming):
    """Each rank takes the root of its squares; their squares are summed."""

    def global_norm(self, gradients):
        local = sum(self.squared_norm(name, g) for name, g in gradients.items()) ** 0.5
        return self.sum_over_model(local * local) ** 0.5


class Recomputed(Conforming):
    """A layer is computed again in the backward pass, all but its last sum; its products are done once more."""

    def transfers(self):
        for transfer in super().transfers():
            yield transfer
            if transfer.phase == "forward":
                yield replace(transfer, phase="backward", calls=transfer.calls // 2)

    def compute_axes(self):
        return ()


class SumInTwoParts(Conforming):
    """The sum at the end of a block is a reduce-scatter and an all-gather."""

    def transfers(self):
        for transfer in super().transfers():
            if transfer.phase == "forward" and transfer.kind == "all_reduce":
                yield from (replace(transfer, kind=kind) for kind in ("reduce_scatter", "all_gather"))
            else:
                yield transfer


class GradientsSummedInBfloat16(Conforming):
    """Gradients are reduced in bfloat16, the dtype that the case computes in, and this is declared."""

    @property
    def reduction_dtype(self):
        return "bfloat16"

    def transfers(self):
        for transfer in super().transfers():
            is_gradient = transfer.tensor.startswith("gradients/")
            yield replace(transfer, dtype="bfloat16") if is_gradient and transfer.phase == "update" else transfer
