"""Tokens sharded by annotation: within blocks over the sequence axis, between them over the tensor axis as well.

No collective is written: the partitioner gathers keys and values for attention, and turns the sums at the end of a
block into reduce-scatters where it can.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax

from conformance.contract.budget import Allowance
from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard
from suites.sequence.token_layout import CONTEXT
from suites.tensor.jax_automatic import attention, feedforward, transformer
from suites.tensor.jax_automatic.annotations import TensorAnnotations


class SequenceAnnotations(TensorAnnotations):
    """Rows over data, tokens over sequence, and the residual stream's tokens over tensor too where they divide."""

    token_axes = CONTEXT

    def on_rows(self, x: jax.Array) -> jax.Array:
        return self.constrain(x, self.stream_placements() if x.ndim == 3 else self.row_placements())

    def budget(self) -> Iterable[Allowance] | None:
        """What the partitioner sends of a stream that two axes divide is not declared."""
        return None

    def stream_placements(self) -> Placements:
        divides = self.row_length % (self.mesh.size("sequence") * self.tensor_size()) == 0
        return {**self.row_placements(), self.tensor_axis: Shard(1)} if divides else self.row_placements()

    def require_supported(self) -> None:
        super().require_supported()
        size = self.mesh.size("sequence")
        if self.row_length % size:
            raise Unsupported(
                f"Annotations cannot divide {self.row_length} tokens over {size} devices of the sequence axis."
            )


class FeedForward(SequenceAnnotations, feedforward.FeedForward):
    pass


class Attention(SequenceAnnotations, attention.Attention):
    pass


class Layer(SequenceAnnotations, transformer.Layer):
    pass


class LanguageModel(SequenceAnnotations, transformer.LanguageModel):
    pass
