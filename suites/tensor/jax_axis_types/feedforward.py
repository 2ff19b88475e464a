"""The feed-forward block on axes of several types.

B: rows  S: tokens  D: hidden  F: hidden features, over the tensor axis
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from conformance.contract.implementation import Unsupported
from suites.tensor.jax_automatic.feedforward import FeedForward
from suites.tensor.jax_axis_types.axes import TypedAxes
from suites.training.jax.state import Named


class ExplicitFeedForward(TypedAxes, FeedForward):
    """Every axis is explicit: the product over the divided features says that its result lies by rows."""

    explicit = ("data", "tensor")

    def feedforward(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array:
        rows = self.explicitly(self.row_placements())
        h_BSF = self.hidden_features(x_BSD, name, p)
        y_BSD = jnp.einsum("bsf,fd->bsd", h_BSF, p[f"{name}.down.weight"], out_sharding=rows)
        return y_BSD + p[f"{name}.down.bias"]


class MixedFeedForward(TypedAxes, FeedForward):
    """Rows lie explicitly, parameters and optimizer automatically; the block is manual over the tensor axis."""

    explicit = ("data",)

    def feedforward(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array:
        names = ("up.weight", "up.bias", "down.weight")
        specs = (PartitionSpec(None, "tensor"), PartitionSpec("tensor"), PartitionSpec("tensor"))
        block = jax.shard_map(
            self.own_part, in_specs=(PartitionSpec(), *specs), out_specs=PartitionSpec(), axis_names={"tensor"}
        )
        return block(x_BSD, *(p[f"{name}.{part}"] for part in names)) + p[f"{name}.down.bias"]

    def own_part(self, x_BSD: jax.Array, up_DF: jax.Array, bias_F: jax.Array, down_FD: jax.Array) -> jax.Array:
        """What this device's features add to the result, summed over the tensor axis."""
        return self.sum_over_tensor(jax.nn.gelu(x_BSD @ up_DF + bias_F, approximate=True) @ down_FD)

    def require_supported(self) -> None:
        super().require_supported()
        if self.contract.model.activation != "gelu":
            raise Unsupported("The block that is manual over the tensor axis is that of GELU.")
        if self.tensor_size() == 1:
            raise Unsupported("XLA compiles no sum over a manual axis of size 1 beside an axis that is not manual.")

    def sum_over_tensor(self, y_BSD: jax.Array) -> jax.Array:
        return jax.lax.psum(y_BSD, "tensor")
