"""A mixture of experts: router, gates and auxiliary losses. Subclasses define the exchange of tokens.

B: rows  S: tokens of a row  D: hidden  E: experts  K: choices of a token
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace

import jax
import jax.numpy as jnp

from conformance.contract.implementation import CollectiveKind, Phase
from reference.jax.rounding import rounded
from suites.moe.jax_manual import routing
from suites.moe.layout import TERMS, ExpertLayout
from suites.tensor.jax_manual.transformer import DecoderLayers
from suites.training.jax.state import Named
from suites.training.traffic import Transfer


class MixtureBlock(ExpertLayout, DecoderLayers):
    """Takes the place of a feed-forward block; its shared expert, if there is one, is a block like any other."""

    def fed(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        if name not in self.mixtures:
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

    def numbered_in_slice(self, choices_BSK: jax.Array) -> jax.Array:
        """How many of the whole slice come before each choice at its expert, the rows of a device after those before.

        Other devices' earlier choices come before, and of the same choice those of the devices in front of this one.
        """
        asked_BSKE = choices_BSK[..., None] == jnp.arange(self.contract.model.experts)
        own_KE = jnp.sum(asked_BSKE, axis=(0, 1), dtype=jnp.int32)
        every_RKE = self.counts_of_devices(own_KE)
        in_front_R11 = (jnp.arange(len(every_RKE)) < self.row_place())[:, None, None]
        others_KE = every_RKE.sum(0) - own_KE
        ahead_KE = jnp.cumsum(others_KE, axis=0) - others_KE + jnp.sum(every_RKE * in_front_R11, axis=0)
        own_BSK = routing.numbered(choices_BSK.reshape(1, -1, choices_BSK.shape[2]), self.contract.model.experts)
        return own_BSK.reshape(choices_BSK.shape) + jnp.sum(asked_BSKE * ahead_KE, axis=-1)

    def counts_of_devices(self, own_KE: jax.Array) -> jax.Array:
        """[R, K, E]: what the rows of each device ask for, devices in the order of their rows."""
        counts_RKE = own_KE[None]
        for axis in reversed(self.active(self.row_axes)):
            counts_RKE = jax.lax.all_gather(counts_RKE, axis, axis=0, tiled=True)
        return counts_RKE

    def row_place(self) -> jax.Array | int:
        """Place of this device among those that divide the rows."""
        place: jax.Array | int = 0
        for axis in self.row_axes:
            place = place * self.mesh.size(axis) + self.axis_rank(axis)
        return place

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
            shares = [observed.pop(f"terms/{term}/{name}") for name in self.mixtures]
            observed[f"metrics/{term}"] = getattr(self.contract.model, term) * sum(shares) / len(shares) * whole
            loss = loss + observed[f"metrics/{term}"]
        return loss, weight, observed

    # Overrides of the training step.

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        return self.with_terms(*super().forward(p, batch))  # type: ignore[safe-super]

    def finished_sums(self, sums: Named, weight: jax.Array) -> Named:
        """Loads are numbers of choices, and no means."""
        loads = {name: value for name, value in sums.items() if name.startswith("metrics/load/")}
        return super().finished_sums({name: value for name, value in sums.items() if name not in loads}, weight) | loads

    def adjusted(self, state: dict, sums: Named) -> dict:
        """The router biases after a step: up by the rate where the load lies below the mean, down where above."""
        if not self.contract.model.router_bias:
            return state
        parameters, slots = dict(state["parameters"]), dict(state["optimizer"])
        for name in self.mixtures:
            bias, load_E = f"{name}.router.bias", sums[f"metrics/load/{name}"]
            old_E = slots["master"][bias] if self.master_dtype else parameters[bias].astype(self.master)
            new_E = old_E + self.contract.model.bias_update_rate * jnp.sign(
                self.stored_part(bias, load_E.mean() - load_E)
            )
            parameters[bias] = rounded(new_E, self.stored_dtype)
            if self.master_dtype:
                slots["master"] = {**slots["master"], bias: new_E}
        return {**state, "parameters": parameters, "optimizer": slots}

    def summed_scalars(self) -> int:
        return super().summed_scalars() + len(TERMS)

    def exchanges(self, elements: int) -> Iterator[Transfer]:
        """Of so many elements for each row: all-to-alls there and back, and the sums over features of experts.

        Gradients go the same ways.
        """
        again = int(self.recomputes)
        collectives: tuple[tuple[CollectiveKind, str, int, int], ...] = (
            ("all_to_all", self.expert_axis, 2, 2 + 2 * again),
            ("all_reduce", self.tensor_axis, 1, 1 + again),
        )
        for kind, axis, forward, backward in collectives:
            for rows in self.device_slices:
                yield self.in_mixtures(kind, axis, "forward", rows * elements, forward)
                yield self.in_mixtures(kind, axis, "backward", rows * elements, backward)

    def in_mixtures(self, kind: CollectiveKind, axis: str, phase: Phase, elements: int, calls: int) -> Transfer:
        """In every mixture, `calls` collectives in one slice of the batch."""
        calls, dtype = calls * len(self.mixtures), self.compute
        return Transfer(kind=kind, axes=(axis,), phase=phase, elements=elements, dtype=dtype, calls=calls)

    def statistics(self, phase: Phase) -> Iterator[Transfer]:
        """Sums over the data axes in every slice: of tokens or rows, of choices."""
        number, slices = len(self.mixtures), self.contract.recipe.accumulation
        yield replace(self.update_sum(self.data_axes, 1, 2 * number * slices), phase=phase)
        if self.contract.model.balance_scope == "batch":
            yield replace(self.update_sum(self.data_axes, self.contract.model.experts, number * slices), phase=phase)

    def transfers(self) -> Iterator[Transfer]:
        """Loads as they are observed, the weight of every slice, and what the terms of the loss are means of."""
        yield from super().transfers()
        yield self.update_sum(self.data_axes, self.contract.model.experts, len(self.mixtures))
        yield replace(self.update_sum(self.data_axes, 1, self.contract.recipe.accumulation), phase="forward")
        for phase in ("forward", "backward") if self.recomputes else ("forward",):
            yield from self.statistics(phase)
            yield from self.count_transfers(phase)

    def count_transfers(self, phase: Phase) -> Iterator[Transfer]:
        """What every device's rows ask for, where places are those of a slice."""
        model, elements = self.contract.model, self.contract.model.top_k * self.contract.model.experts
        for axis in reversed(self.row_axes) if model.capacity_factor and model.capacity_scope == "batch" else ():
            elements *= self.mesh.size(axis)
            calls = self.contract.recipe.accumulation
            yield replace(self.in_mixtures("all_gather", axis, phase, elements, calls), dtype="int32")
