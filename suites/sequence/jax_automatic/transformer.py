"""Tokens sharded by annotation: within blocks over the sequence axis, between them over the tensor axis as well.

No collective is written: the partitioner gathers keys and values for attention, and turns the sums at the end of a
block into reduce-scatters where it can.
"""

from __future__ import annotations

from collections.abc import Iterable

import jax
from jax.sharding import NamedSharding, PartitionSpec

from conformance.contract.budget import Allowance
from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Shard
from suites.sequence.budget import OF_KIND, StreamSizes
from suites.sequence.token_layout import CONTEXT
from suites.tensor.jax_automatic import attention, feedforward, transformer
from suites.tensor.jax_automatic.annotations import TensorAnnotations
from suites.training.jax.state import Named


class SequenceAnnotations(TensorAnnotations):
    """Rows over data, tokens over sequence, and the residual stream's tokens over tensor too where they divide."""

    token_axes = CONTEXT

    def on_rows(self, x: jax.Array) -> jax.Array:
        """As the residual stream holds it, if it has features."""
        return self.constrain(x, self.stream_placements() if x.ndim == 3 else self.row_placements())

    def sharding(self, placements: Placements) -> NamedSharding:
        """Tokens of a device of the sequence axis are divided over tensor, whichever of them is first in the mesh.

        Then blocks are entered by gathers over tensor alone, and left by reduce-scatters.
        """
        dims = (self.tensor_innermost(axes) for axes in self.spec(placements))
        return NamedSharding(self.device_mesh, PartitionSpec(*dims))

    def tensor_innermost(self, axes: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        """The axes that divide tokens, tensor last; those of any other dim as they are."""
        divides_tokens = isinstance(axes, tuple) and CONTEXT[0] in axes
        return tuple(sorted(axes, key=lambda axis: axis == self.tensor_axis)) if axes and divides_tokens else axes

    def budget(self) -> Iterable[Allowance] | None:
        return OF_KIND[self.contract.model.kind](StreamSizes(self))

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


class AttentionAnnotations(SequenceAnnotations, attention.AttentionBlock):
    """Heads are sharded as soon as they are made.

    Left to itself the partitioner shards the tokens of projections over both axes, and gathers the gradients of rotated
    heads whole.
    """

    def query_key_value(self, x_BSD: jax.Array, name: str, p: Named) -> list[jax.Array]:
        return [self.on_heads(heads) for heads in super().query_key_value(x_BSD, name, p)]

    def on_heads(self, x_BSHE: jax.Array) -> jax.Array:
        """Heads over tensor where they divide, else replicated there."""
        divides = x_BSHE.shape[2] % self.tensor_size() == 0
        return self.on_tensor(x_BSHE, 2) if divides else self.constrain(x_BSHE, self.row_placements())


class FeedForward(SequenceAnnotations, feedforward.FeedForward):
    pass


class Attention(AttentionAnnotations, attention.Attention):
    pass


class Layer(AttentionAnnotations, transformer.Layer):
    pass


class LanguageModel(AttentionAnnotations, transformer.LanguageModel):
    """What is known of a token lies where its logits do."""

    def token_losses(self, logits_BSV: jax.Array, targets_BS: jax.Array) -> tuple[jax.Array, jax.Array]:
        entropy_BS, z_BS = super().token_losses(logits_BSV, self.on_rows(targets_BS))
        return self.on_rows(entropy_BS), self.on_rows(z_BS)
