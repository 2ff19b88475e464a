"""A mixture of experts: router, gates and auxiliary losses, on the rows at hand. Subclasses exchange the tokens.

The rows at hand are those of one device, or all of them where a partitioner divides the program; `sum_over_data` makes
a sum over them one over the whole slice.
B: rows  S: tokens of a row  D: hidden  E: experts  K: choices of a token
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from reference.jax.rounding import rounded
from suites.moe.jax import routing
from suites.moe.layout import TERMS, ExpertLayout
from suites.training.jax.state import Named

if TYPE_CHECKING:
    from conformance.contract.placements import Placements
    from suites.training.jax.step import TrainingStep

    class Training(TrainingStep):
        """A training step on the rows at hand, by collectives or by annotation."""

        def fed(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array: ...
        def feedforward(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array: ...
        def numbered_in_slice(self, choices_BSK: jax.Array) -> jax.Array: ...
        def sum_over_data(self, x: jax.Array) -> jax.Array: ...
        def computed_placements(self, name: str) -> Placements: ...
        def stored_part(self, name: str, whole: jax.Array) -> jax.Array: ...
else:
    Training = object


class RoutedBlock(ExpertLayout, Training):
    """Takes the place of a feed-forward block; its shared expert, if there is one, is a block like any other."""

    def fed(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        if name.rpartition(".")[2] != "moe":
            return super().fed(x_BSD, batch, name, p, observed)
        y_BSD = self.mixture(x_BSD, batch, name, p, observed)
        return y_BSD + self.feedforward(x_BSD, f"{name}.shared", p) if self.contract.model.shared_ffn else y_BSD

    def mixture(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        """Adds logits, choices and load to `observed`, and the terms of the loss under terms/.

        Where the batch prescribes the choices, scores/<name> still is of those that the router makes itself.
        """
        logits_BSE = observed[f"activations/{name}.router"] = self.router_logits(x_BSD, p[f"{name}.router.weight"])
        wide_BSE = logits_BSE.astype(self.master)
        scores_BSE = routing.scored(wide_BSE, self.contract.model.scores)
        ranked_BSE = self.ranked(scores_BSE, name, p)
        own_BSK = self.asked(self.best(ranked_BSE), batch)
        observed[f"scores/{name}"] = routing.of_choices(ranked_BSE, own_BSK)
        choices_BSK = self.asked(batch[f"routing.{name}"], batch) if f"routing.{name}" in batch else own_BSK
        observed[f"choices/{name}"] = choices_BSK.astype(self.master)
        admitted_BSK = self.admitted(choices_BSK)
        observed[f"routing/{name}"] = admitted_BSK.astype(self.master)
        self.note_terms(name, wide_BSE, scores_BSE, choices_BSK, batch, observed)
        gates_BSK = routing.gated(scores_BSE, choices_BSK, self.contract.model.normalized_gates)
        return self.mixed(x_BSD, gates_BSK, admitted_BSK, name, p)

    # Choices.

    def router_logits(self, x_BSD: jax.Array, w_DE: jax.Array) -> jax.Array:
        return x_BSD @ w_DE

    def best(self, ranked_BSE: jax.Array) -> jax.Array:
        return routing.chosen(ranked_BSE, self.contract.model.top_k)

    def asked(self, choices_BSK: jax.Array, batch: Named) -> jax.Array:
        """Choices with -1 for padding tokens, which are not routed."""
        return jnp.where(batch["attention_mask"][..., None] > 0, choices_BSK, -1)

    def ranked(self, scores_BSE: jax.Array, name: str, p: Named) -> jax.Array:
        """The values that top-k selects by: the scores, plus the router bias where there is one."""
        bias = f"{name}.router.bias"
        return scores_BSE + p[bias].astype(self.master) if bias in p else scores_BSE

    def admitted(self, choices_BSK: jax.Array) -> jax.Array:
        """The choices that find a place at their expert; -1 for those that are dropped."""
        if not self.contract.model.capacity_factor:
            return choices_BSK
        if self.contract.model.capacity_scope == "batch":
            return jnp.where(self.numbered_in_slice(choices_BSK) < self.places_in_slice(choices_BSK), choices_BSK, -1)
        before_BSK = routing.numbered(choices_BSK, self.contract.model.experts)
        return jnp.where(before_BSK < self.places_in_row, choices_BSK, -1)

    # Experts.

    def mixed(self, x_BSD: jax.Array, gates_BSK: jax.Array, admitted_BSK: jax.Array, name: str, p: Named) -> jax.Array:
        """The sum over experts of gate x expert(token); or of expert(gate x token)."""
        before = self.contract.model.gates_before
        weights_BSK = jnp.where(admitted_BSK >= 0, 1 if before else gates_BSK, 0).astype(self.master)
        read_BSKD = jnp.broadcast_to(x_BSD[:, :, None], (*admitted_BSK.shape, x_BSD.shape[-1]))
        if before:
            read_BSKD = (read_BSKD.astype(self.master) * gates_BSK[..., None]).astype(self.compute)
        said_BSKD = self.exchanged(read_BSKD, admitted_BSK, name, p)
        return jnp.sum(weights_BSK[..., None] * said_BSKD.astype(self.master), axis=2).astype(self.compute)

    @abstractmethod
    def exchanged(self, read_BSKD: jax.Array, admitted_BSK: jax.Array, name: str, p: Named) -> jax.Array:
        """The expert outputs for the given inputs; zeros, or anything finite, for a choice of -1."""

    # Terms of the loss.

    def note_terms(
        self,
        name: str,
        logits_BSE: jax.Array,
        scores_BSE: jax.Array,
        choices_BSK: jax.Array,
        batch: Named,
        observed: Named,
    ) -> None:
        """This device's share of the terms: over the whole slice they add up to its means."""
        experts, real_BS = self.contract.model.experts, batch["attention_mask"].astype(self.master)
        asked_BSE = jnp.sum(choices_BSK[..., None] == jnp.arange(experts), axis=2).astype(self.master)
        observed[f"metrics/load/{name}"] = asked_BSE.sum((0, 1))
        observed[f"terms/balance_loss/{name}"] = self.balance_share(asked_BSE, scores_BSE, batch)
        lse_BS = jax.nn.logsumexp(logits_BSE, -1)
        observed[f"terms/router_z_loss/{name}"] = jnp.sum(real_BS * lse_BS**2) / jnp.maximum(self.real_tokens(batch), 1)

    def real_tokens(self, batch: Named) -> jax.Array:
        """Real tokens of the whole slice."""
        return self.sum_over_data(batch["attention_mask"].astype(self.master).sum())

    def real_rows(self, batch: Named) -> jax.Array:
        """Rows of the whole slice that have a real token."""
        return self.sum_over_data(jnp.sum((batch["attention_mask"] > 0).any(1).astype(self.master)))

    def balance_share(self, asked_BSE: jax.Array, scores_BSE: jax.Array, batch: Named) -> jax.Array:
        """E x sum over experts of (share of choices) x (mean score), of the slice on all devices, or row by row."""
        model, real_BS = self.contract.model, batch["attention_mask"].astype(self.master)
        shares_BSE = scores_BSE / scores_BSE.sum(-1, keepdims=True) * real_BS[..., None]
        if model.balance_scope == "row":
            tokens_B1 = jnp.maximum(real_BS.sum(1), 1)[:, None]
            terms_B = jnp.sum(asked_BSE.sum(1) * shares_BSE.sum(1) / tokens_B1**2, -1)
            return model.experts / model.top_k * jnp.sum(terms_B) / jnp.maximum(self.real_rows(batch), 1)
        products_E = self.sum_over_data(asked_BSE.sum((0, 1))) * shares_BSE.sum((0, 1))
        return model.experts / model.top_k * jnp.sum(products_E) / jnp.maximum(self.real_tokens(batch), 1) ** 2

    def with_terms(self, loss: jax.Array, weight: jax.Array, observed: Named) -> tuple[jax.Array, jax.Array, Named]:
        """The loss with the terms of all mixtures: their mean, times the weight of the whole slice."""
        observed, whole = dict(observed), self.sum_over_data(weight)
        for term in TERMS:
            share = self.mean_of_mixtures(term, observed)
            observed[f"metrics/{term}"] = getattr(self.contract.model, term) * share * whole
            loss = loss + observed[f"metrics/{term}"]
        return loss, weight, observed

    def mean_of_mixtures(self, term: str, observed: Named) -> jax.Array:
        """Takes the term of every mixture out of what was observed."""
        shares = [observed.pop(f"terms/{term}/{name}") for name in self.mixtures]
        return jnp.sum(jnp.stack(shares)) / len(shares)

    # Parts of the training step.

    def finished_sums(self, sums: Named, weight: jax.Array) -> Named:
        """Loads are numbers of choices, and no means."""
        loads = {name: value for name, value in sums.items() if name.startswith("metrics/load/")}
        return super().finished_sums({name: value for name, value in sums.items() if name not in loads}, weight) | loads

    def adjusted(self, state: dict, sums: Named) -> dict:
        """The router biases after a step: up by the rate where the load lies below the mean, down where above."""
        if not self.contract.model.router_bias:
            return state
        parameters, slots = dict(state["parameters"]), dict(state["optimizer"])
        for bias, load_E in self.loads(sums).items():
            old_E = slots["master"][bias] if self.master_dtype else parameters[bias].astype(self.master)
            lacking_E = self.stored_part(bias, load_E.mean(-1, keepdims=True) - load_E)
            new_E = old_E + self.contract.model.bias_update_rate * jnp.sign(lacking_E)
            parameters[bias] = rounded(new_E, self.stored_dtype)
            if self.master_dtype:
                slots["master"] = {**slots["master"], bias: new_E}
        return {**state, "parameters": parameters, "optimizer": slots}

    def loads(self, sums: Named) -> Named:
        """Stored name of a router bias -> what the experts of its mixture were asked."""
        return {f"{name}.router.bias": sums[f"metrics/load/{name}"] for name in self.mixtures}
