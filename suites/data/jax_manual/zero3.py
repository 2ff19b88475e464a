"""ZeRO stage 3, full sharding: parameters too are sharded over the shard axis, and whole only where they are used.

Law: a gather in the forward pass is a reduce-scatter of the gradient in the backward pass. The parameters of a decoder
layer are gathered when the layer begins and forgotten when it ends; its backward pass gathers them again. What belongs
to no layer (embedding, last norm, head) is gathered once for both passes. Every slice of the batch gathers anew, so no
gathered parameter outlives an update.
Sources: Rajbhandari et al., ZeRO, section 5.3; Zhao et al., PyTorch FSDP, sections 3.2 and 3.3.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import jax

from suites.data.jax_manual.contrastive import ContrastiveTowers
from suites.data.jax_manual.evaluation import Evaluation
from suites.data.jax_manual.sharding import ShardedGradients
from suites.data.layout import ParameterShards
from suites.data.step_budget import ZERO_3, evaluated, of_evaluated_parameters
from suites.tensor.jax_manual import linear, transformer
from suites.training.jax.state import Named
from suites.training.step_budget import Budgets

VIEWS = ("slice", "broadcast_in_dim", "reshape", "convert_element_type")  # to keep them is to keep what was gathered
LAYERS = ("layers", "layer")  # the first word in the name of a parameter of a decoder layer


class Zero3(ParameterShards, ShardedGradients):
    """A mixin for any training step."""

    sends: ClassVar[Budgets] = ZERO_3

    def no_gradients(self, parameters: Named) -> Named:
        """Parameters are shards, and so are their gradients."""
        return super(ShardedGradients, self).no_gradients(parameters)

    def to_compute(self, parameters: Named) -> Named:
        """Shards as they are: they are rounded on the way to being gathered."""
        return parameters

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        outside = {name: self.gather_parameter(name, shard) for name, shard in p.items() if not in_layer(name)}
        return super().forward(p | outside, batch)  # type: ignore[safe-super]

    def decoder_layer(self, x: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        """Keeps everything for the backward pass except the gathered parameters."""
        shards = {parameter: shard for parameter, shard in p.items() if parameter.startswith(f"{name}.")}

        def layer(x: jax.Array, shards: Named) -> tuple[jax.Array, Named]:
            seen: Named = {}
            whole = {parameter: self.gather_parameter(parameter, shard) for parameter, shard in shards.items()}
            layer_of = super(Zero3, self).decoder_layer  # type: ignore[misc]
            return layer_of(x, batch, name, p | whole, seen), seen

        y, seen = (layer if self.recomputes else jax.checkpoint(layer, policy=self.is_kept))(x, shards)
        observed.update(seen)
        return y

    def is_kept(self, primitive: Any, *_: Any, **parameters: Any) -> bool:
        """Whether the backward pass of a layer may keep a result of its forward pass."""
        gathers = primitive.name == "all_gather" and self.shard_axis in parameters["axis_name"]
        return not gathers and primitive.name not in VIEWS

    def gather_parameter(self, name: str, shard: jax.Array) -> jax.Array:
        """The whole parameter; the gradient that comes back is that of the shard."""
        gather = jax.custom_vjp(partial(self.gather_shards, name))
        gather.defvjp(
            lambda own: (self.gather_shards(name, own), None),
            lambda _, g: (self.scatter_gradient(name, g).astype(shard.dtype),),
        )
        return gather(shard)

    def gather_shards(self, name: str, shard: jax.Array) -> jax.Array:
        return self.gather(name, shard.astype(self.compute))


def in_layer(name: str) -> bool:
    return name.partition(".")[0] in LAYERS


class Linear(Zero3, linear.ColumnLinear):
    """One linear layer."""


class Layer(Zero3, transformer.Layer):
    """One decoder layer."""


class LanguageModel(Zero3, transformer.LanguageModel):
    """The decoder language model."""


class Contrastive(Zero3, ContrastiveTowers):
    """Two towers and a loss that couples all rows."""


class Evaluated(Evaluation, LanguageModel):
    """The same, and an evaluation after every step."""

    sends = evaluated(ZERO_3, of_evaluated_parameters)
