"""Which experts are chosen, and with which gates: the same mixins for both frameworks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from suites.tensor.faults import Conforming


class BestOfOwnShard(Conforming):
    """Top-k runs over the experts of one shard, and local indices are used as global expert numbers."""

    def best(self, ranked):
        return super().best(ranked) % self.experts_here


class RankedWithOwnNoise(Conforming):
    """Ties are broken by noise that differs between the ranks of the data axis."""

    def ranked(self, scores, name, p):
        ranks = super().ranked(scores, name, p)
        neighbour = [*range(1, self.contract.model.experts), 0]
        return ranks + 0.25 * self.axis_rank("data") * ranks[..., neighbour]


class PaddingRouted(Conforming):
    """Padding tokens are routed: they take capacity and count in the load."""

    def mixture(self, x, batch, name, p, observed):
        return super().mixture(x, {**batch, "attention_mask": batch["attention_mask"] * 0 + 1}, name, p, observed)


class BiasInGates(Conforming):
    """The router bias, meant for the choice alone, joins the gates."""

    def mixed(self, x, gates, admitted, name, p):
        bias = p[f"{name}.router.bias"]
        return super().mixed(x, gates + bias[admitted.clip(0)] * (admitted >= 0), admitted, name, p)


class GatesOnTheOtherSide(Conforming):
    """Gates multiply the expert outputs where the contract declares inputs, and the reverse."""

    contract: Any

    def mixed(self, *given):
        declared = self.contract
        model = replace(declared.model, gates_before=not declared.model.gates_before)
        self.contract = replace(declared, model=model)
        result = super().mixed(*given)
        self.contract = declared
        return result


class GatesOverAdmitted(Conforming):
    """Gates are normalized over the choices that were not dropped."""

    def mixed(self, x, gates, admitted, name, p):
        gates = gates * (admitted >= 0)
        sums = gates.sum(-1)[..., None]
        return super().mixed(x, gates / (sums + (sums == 0)), admitted, name, p)


class CapacityIgnored(Conforming):
    """Nothing is dropped."""

    def admitted(self, choices):
        return choices


class TokensBeforeChoices(Conforming):
    """Places are given token by token: a second choice comes before the first choice of a later token."""

    def admitted(self, choices):
        rows, length, top_k = choices.shape
        queue = choices.reshape(rows, length * top_k, 1)
        return super().admitted(queue).reshape(rows, length, top_k)


class RemoteServedHere(Conforming):
    """A choice of a remote expert is clamped to the number of a local one, which serves it."""

    def exchanged(self, read, admitted, name, p):
        first = self.axis_rank(self.expert_axis) * self.experts_here
        here = admitted.clip(first, first + self.experts_here - 1)
        return super().exchanged(read, here * (admitted >= 0) + admitted * (admitted < 0), name, p)


class DroppedGoToFirstExpert(Conforming):
    """A dropped choice is clamped to the first expert, which serves it."""

    def exchanged(self, read, admitted, name, p):
        return super().exchanged(read, admitted.clip(0), name, p)

    def mixed(self, x, gates, admitted, name, p):
        return super().mixed(x, gates, admitted.clip(0), name, p)
