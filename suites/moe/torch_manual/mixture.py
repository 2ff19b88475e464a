"""A mixture of experts: router, gates and auxiliary losses. Subclasses define the exchange of tokens.

B: rows  S: tokens of a row  D: hidden  E: experts  K: choices of a token
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from suites.moe.layout import TERMS, ExpertLayout
from suites.moe.torch_manual import routing
from suites.tensor.torch_manual.transformer import DecoderLayers
from suites.training.torch.state import Named, State, dtype_of


class MixtureBlock(ExpertLayout, DecoderLayers):
    """Takes the place of a feed-forward block; its shared expert, if there is one, is a block like any other."""

    def fed(self, x_BSD: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        if name not in self.mixtures:
            return super().fed(x_BSD, batch, name, p, observed)
        y_BSD = self.mixture(x_BSD, batch, name, p, observed)
        return y_BSD + self.feedforward(x_BSD, f"{name}.shared", p) if self.contract.model.shared_ffn else y_BSD

    def mixture(self, x_BSD: Tensor, batch: Named, name: str, p: Named, observed: Named) -> Tensor:
        """Adds logits, choices and load to `observed`, and the terms of the loss under terms/.

        Where the batch prescribes the choices, scores/<name> still is of those that the router makes itself.
        """
        logits_BSE = observed[f"activations/{name}.router"] = self.router_logits(x_BSD, p[f"{name}.router.weight"])
        wide_BSE = logits_BSE.to(self.master)
        scores_BSE = routing.scored(wide_BSE, self.contract.model.scores)
        ranked_BSE = self.ranked(scores_BSE, name, p)
        own_BSK = self.asked(self.best(ranked_BSE), batch)
        observed[f"scores/{name}"] = routing.of_choices(ranked_BSE, own_BSK)
        choices_BSK = self.asked(batch[f"routing.{name}"].long(), batch) if f"routing.{name}" in batch else own_BSK
        observed[f"choices/{name}"] = choices_BSK.to(self.master)
        admitted_BSK = self.admitted(choices_BSK)
        observed[f"routing/{name}"] = admitted_BSK.to(self.master)
        self.note_terms(name, wide_BSE, scores_BSE, choices_BSK, batch, observed)
        gates_BSK = routing.gated(scores_BSE, choices_BSK, self.contract.model.normalized_gates)
        return self.mixed(x_BSD, gates_BSK, admitted_BSK, name, p)

    # Choices.

    def router_logits(self, x_BSD: Tensor, w_DE: Tensor) -> Tensor:
        return x_BSD @ w_DE

    def best(self, ranked_BSE: Tensor) -> Tensor:
        return routing.chosen(ranked_BSE, self.contract.model.top_k)

    def asked(self, choices_BSK: Tensor, batch: Named) -> Tensor:
        """Choices with -1 for padding tokens, which are not routed."""
        return torch.where(batch["attention_mask"][..., None] > 0, choices_BSK, -1)

    def ranked(self, scores_BSE: Tensor, name: str, p: Named) -> Tensor:
        """The values that top-k selects by: the scores, plus the router bias where there is one."""
        bias = f"{name}.router.bias"
        return scores_BSE + p[bias].to(self.master) if bias in p else scores_BSE

    def admitted(self, choices_BSK: Tensor) -> Tensor:
        """The choices that find a place at their expert; -1 for those that are dropped."""
        if not self.contract.model.capacity_factor:
            return choices_BSK
        if self.contract.model.capacity_scope == "batch":
            return torch.where(self.numbered_in_slice(choices_BSK) < self.places_in_slice(choices_BSK), choices_BSK, -1)
        before_BSK = routing.numbered(choices_BSK, self.contract.model.experts)
        return torch.where(before_BSK < self.places_in_row, choices_BSK, -1)

    def numbered_in_slice(self, choices_BSK: Tensor) -> Tensor:
        """How many of the whole slice come before each choice at its expert, the rows of a rank after those before.

        Other ranks' earlier choices come before, and of the same choice those of the ranks in front of this one.
        """
        asked_BSKE = (choices_BSK[..., None] == torch.arange(self.contract.model.experts)).long()
        own_KE = asked_BSKE.sum((0, 1))
        every_RKE = self.counts_of_devices(own_KE)
        others_KE = every_RKE.sum(0) - own_KE
        ahead_KE = others_KE.cumsum(0) - others_KE + every_RKE[: self.row_place()].sum(0)
        own_BSK = routing.numbered(choices_BSK.reshape(1, -1, choices_BSK.shape[2]), self.contract.model.experts)
        return own_BSK.reshape(choices_BSK.shape) + (asked_BSKE * ahead_KE).sum(-1)

    def counts_of_devices(self, own_KE: Tensor) -> Tensor:
        """[R, K, E]: what the rows of each rank ask for, ranks in the order of their rows."""
        counts_RKE = own_KE[None]
        for axis in reversed(self.row_axes):
            counts_RKE = self.axis(axis).all_gather(counts_RKE, 0)
        return counts_RKE

    def row_place(self) -> int:
        """Place of this rank among those that divide the rows."""
        place = 0
        for axis in self.row_axes:
            place = place * self.mesh.size(axis) + self.axis(axis).rank
        return place

    # Experts.

    def mixed(self, x_BSD: Tensor, gates_BSK: Tensor, admitted_BSK: Tensor, name: str, p: Named) -> Tensor:
        """The sum over experts of gate x expert(token); or of expert(gate x token)."""
        read_BSKD = x_BSD[:, :, None].expand(*admitted_BSK.shape, x_BSD.shape[-1])
        weights_BSK = gates_BSK
        if self.contract.model.gates_before:
            read_BSKD = (read_BSKD.to(self.master) * gates_BSK[..., None]).to(self.compute)
            weights_BSK = torch.ones_like(gates_BSK)
        said_BSKD = self.exchanged(read_BSKD, admitted_BSK, name, p).to(self.master)
        weights_BSK = weights_BSK * (admitted_BSK >= 0)
        return (weights_BSK[..., None] * said_BSKD).sum(2).to(self.compute)

    @abstractmethod
    def exchanged(self, read_BSKD: Tensor, admitted_BSK: Tensor, name: str, p: Named) -> Tensor:
        """The expert outputs for the given inputs; zeros, or anything finite, for a choice of -1."""

    # Terms of the loss.

    def note_terms(
        self, name: str, logits_BSE: Tensor, scores_BSE: Tensor, choices_BSK: Tensor, batch: Named, observed: Named
    ) -> None:
        """This rank's share of the terms: over the whole slice they add up to its means."""
        experts, real_BS = torch.arange(self.contract.model.experts), batch["attention_mask"].to(self.master)
        asked_BSE = (choices_BSK[..., None] == experts).sum(2).to(self.master)
        observed[f"metrics/load/{name}"] = asked_BSE.sum((0, 1))
        observed[f"terms/balance_loss/{name}"] = self.balance_share(asked_BSE, scores_BSE, batch)
        lse_BS = logits_BSE.logsumexp(-1)
        observed[f"terms/router_z_loss/{name}"] = (real_BS * lse_BS**2).sum() / self.real_tokens(batch).clamp(min=1)

    def real_tokens(self, batch: Named) -> Tensor:
        """Real tokens of the whole slice."""
        return self.sum_over_data(batch["attention_mask"].to(self.master).sum())

    def real_rows(self, batch: Named) -> Tensor:
        """Rows of the whole slice that have a real token."""
        return self.sum_over_data((batch["attention_mask"] > 0).any(1).to(self.master).sum())

    def balance_share(self, asked_BSE: Tensor, scores_BSE: Tensor, batch: Named) -> Tensor:
        """E x sum over experts of (share of choices) x (mean score), of the slice on all ranks, or row by row."""
        model, real_BS = self.contract.model, batch["attention_mask"].to(self.master)
        shares_BSE = scores_BSE / scores_BSE.sum(-1, keepdim=True) * real_BS[..., None]
        if model.balance_scope == "row":
            tokens_B1 = real_BS.sum(1).clamp(min=1)[:, None]
            terms_B = (asked_BSE.sum(1) * shares_BSE.sum(1) / tokens_B1**2).sum(-1)
            return model.experts / model.top_k * terms_B.sum() / self.real_rows(batch).clamp(min=1)
        products_E = self.sum_over_data(asked_BSE.sum((0, 1))) * shares_BSE.sum((0, 1))
        return model.experts / model.top_k * products_E.sum() / self.real_tokens(batch).clamp(min=1) ** 2

    def with_terms(self, loss: Tensor, weight: Tensor, observed: Named) -> tuple[Tensor, Tensor, Named]:
        """The loss with the terms of all mixtures: their mean, times the weight of the whole slice."""
        observed, whole = dict(observed), self.sum_over_data(weight)
        for term in TERMS:
            shares = [observed.pop(f"terms/{term}/{name}") for name in self.mixtures]
            share = getattr(self.contract.model, term) * torch.stack(shares).mean() * whole
            observed[f"metrics/{term}"], loss = share, loss + share
        return loss, weight, observed

    # Overrides of the training step.

    def forward(self, p: Named, batch: Named) -> tuple[Tensor, Tensor, Named]:
        return self.with_terms(*super().forward(p, batch))  # type: ignore[safe-super]

    def finished_sums(self, sums: Named, weight: Tensor) -> Named:
        """Loads are numbers of choices, and no means."""
        loads = {name: value for name, value in sums.items() if name.startswith("metrics/load/")}
        return super().finished_sums({name: value for name, value in sums.items() if name not in loads}, weight) | loads

    def adjusted(self, state: State, sums: Named) -> State:
        """The router biases after a step: up by the rate where the load lies below the mean, down where above."""
        if not self.contract.model.router_bias:
            return state
        parameters, slots = dict(state["parameters"]), dict(state["optimizer"])
        for name in self.mixtures:
            bias, load_E = f"{name}.router.bias", sums[f"metrics/load/{name}"]
            if bias not in parameters:  # of a stage on another rank
                continue
            old_E = slots["master"][bias] if self.master_dtype else parameters[bias].to(self.master)
            new_E = old_E + self.contract.model.bias_update_rate * self.stored_part(bias, load_E.mean() - load_E).sign()
            parameters[bias] = new_E.to(dtype_of(self.stored_dtype))
            if self.master_dtype:
                slots["master"] = {**slots["master"], bias: new_E}
        return {**state, "parameters": parameters, "optimizer": slots}
