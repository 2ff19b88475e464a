"""The mixture of experts, which takes the place of a feed-forward block.

B: rows  S: tokens of a row  D: hidden  E: experts  K: choices of a token  I, O: input and output features
For clarity every expert computes every token; the outputs that were not routed to it are multiplied by zero.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from reference.architecture import Architecture, dense, places
from reference.jax import routing
from reference.jax.feedforward import FeedForward
from reference.jax.layers import Tensors, unset


class Router(nnx.Module):
    """Logits over experts, x w; the router bias is not added to the logits, only to the scores that choose experts."""

    def __init__(self, model: Architecture) -> None:
        self.weight = unset(model.hidden, model.experts)
        self.bias = unset(model.experts) if model.router_bias else None

    def __call__(self, x_BSD: jax.Array) -> jax.Array:
        return x_BSD @ self.weight[...]

    def ranked(self, scores_BSE: jax.Array) -> jax.Array:
        return routing.ranked(scores_BSE, None if self.bias is None else self.bias[...])


class Stack(nnx.Module):
    """A linear map of its own for each expert: w_EIO and b_EO, stacked."""

    def __init__(self, experts: int, inputs: int, outputs: int, bias: bool) -> None:
        self.weight = unset(experts, inputs, outputs)
        self.bias = unset(experts, outputs) if bias else None

    def __call__(self, x_BSEI: jax.Array) -> jax.Array:
        y_BSEO = jnp.einsum("bsei,eio->bseo", x_BSEI, self.weight[...])
        return y_BSEO if self.bias is None else y_BSEO + self.bias[...]


class Experts(nnx.Module):
    """Feed-forward blocks side by side: GELU (tanh form) between two linear maps, or SwiGLU."""

    def __init__(self, model: Architecture) -> None:
        self.gate = Stack(model.experts, model.hidden, model.ffn, model.bias) if model.activation == "swiglu" else None
        self.up = Stack(model.experts, model.hidden, model.ffn, model.bias)
        self.down = Stack(model.experts, model.ffn, model.hidden, model.bias)

    def __call__(self, x_BSED: jax.Array) -> jax.Array:
        if self.gate is None:
            return self.down(jax.nn.gelu(self.up(x_BSED), approximate=True))
        return self.down(jax.nn.silu(self.gate(x_BSED)) * self.up(x_BSED))


class Mixture(nnx.Module):
    """y = sum over the experts that a token is admitted to of gate * expert(x), plus shared(x) where there is one.

    With `gates_before` it is the sum of expert(gate * x). Gates multiply, and experts are summed, in `statistics`.
    Padding asks no expert, but the shared one serves it too. Where the batch has routing.<name> [B, S, K], those are
    the choices, -1 for none, and nothing else: gates are still the scores of those experts, load and balance count
    those choices, and places are given to them in their order.
    Source: Dai et al., DeepSeekMoE, section 3.
    """

    def __init__(self, model: Architecture, statistics: str) -> None:
        self.model = model
        self.statistics = statistics
        self.router = Router(model)
        self.experts = Experts(model)
        self.shared = FeedForward(dense(model, model.shared_ffn)) if model.shared_ffn else None

    def __call__(self, x_BSD: jax.Array, batch: Tensors, name: str, observed: Tensors, terms: Tensors) -> jax.Array:
        """Adds to `observed` logits, choices and the admitted ones, to `terms` load/<name> [E] and the losses.

        Under scores/<name> are the ranks of the router's own choices: either choice is right in a near tie.
        """
        logits_BSE = observed[f"activations/{name}.router"] = self.router(x_BSD)
        logits_BSE = logits_BSE.astype(self.statistics)
        scores_BSE = routing.scores(logits_BSE, self.model.scores)
        ranked_BSE = self.router.ranked(scores_BSE)
        own_BSK = self.asked(routing.best(ranked_BSE, self.model.top_k), batch)
        observed[f"scores/{name}"] = routing.of_choices(ranked_BSE, own_BSK)
        choices_BSK = self.asked(batch[f"routing.{name}"], batch) if f"routing.{name}" in batch else own_BSK
        observed[f"choices/{name}"] = choices_BSK.astype(self.statistics)
        admitted_BSK = self.admitted(choices_BSK)
        observed[f"routing/{name}"] = admitted_BSK.astype(self.statistics)

        asked_BSE = routing.spread(jnp.ones_like(choices_BSK, self.statistics), choices_BSK, self.model.experts)
        terms[f"load/{name}"] = jnp.sum(asked_BSE, axis=(0, 1))
        terms[f"balance_loss/{name}"] = routing.balance(asked_BSE, scores_BSE, batch["attention_mask"], self.model)
        terms[f"router_z_loss/{name}"] = routing.router_z(logits_BSE, batch["attention_mask"])

        gates_BSK = routing.gates(scores_BSE, choices_BSK, self.model.normalized_gates)
        y_BSD = self.mixed(x_BSD, gates_BSK, admitted_BSK)
        return y_BSD if self.shared is None else y_BSD + self.shared(x_BSD)

    def asked(self, choices_BSK: jax.Array, batch: Tensors) -> jax.Array:
        """Choices with -1 for padding tokens, which are not routed."""
        return jnp.where(batch["attention_mask"][..., None] > 0, choices_BSK, -1)

    def admitted(self, choices_BSK: jax.Array) -> jax.Array:
        """The choices within the capacity; a capacity of a whole slice is counted as if the slice were one long row."""
        of_batch, top_k = self.model.capacity_scope == "batch", self.model.top_k
        queues_BSK = choices_BSK.reshape(1, -1, top_k) if of_batch else choices_BSK
        limit = places(self.model, queues_BSK.shape[1])
        if limit is None:
            return choices_BSK
        return routing.admitted(queues_BSK, limit, self.model.experts).reshape(choices_BSK.shape)

    def mixed(self, x_BSD: jax.Array, gates_BSK: jax.Array, admitted_BSK: jax.Array) -> jax.Array:
        """The sum over experts; those that a token is not admitted to have weight zero."""
        gate_BSE1 = routing.spread(gates_BSK, admitted_BSK, self.model.experts)[..., None]
        read_BSED = x_BSD[:, :, None, :]
        weight_BSE1 = gate_BSE1
        if self.model.gates_before:
            read_BSED = (read_BSED.astype(self.statistics) * gate_BSE1).astype(x_BSD.dtype)
            weight_BSE1 = routing.spread(jnp.ones_like(gates_BSK), admitted_BSK, self.model.experts)[..., None]
        read_BSED = jnp.broadcast_to(read_BSED, (*x_BSD.shape[:2], self.model.experts, x_BSD.shape[2]))
        said_BSED = self.experts(read_BSED).astype(self.statistics)
        return jnp.sum(weight_BSE1 * said_BSED, axis=2).astype(x_BSD.dtype)
