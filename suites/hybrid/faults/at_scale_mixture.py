"""Mistakes in a mixture that leave every value right and cost memory or time at production size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from conformance.contract.placements import Placements, Replicate
from suites.hybrid.faults.at_scale import PlantedPlan, planted
from suites.hybrid.jax_automatic import production
from suites.moe.layout import is_expert
from suites.training.jax.state import Named


class WholeExperts(production.MixtureLanguageModel):
    """Experts are divided over the expert axis where they compute, and stored whole along it."""

    def placements(self, name: str) -> Placements:
        placements = dict(super().placements(name))
        return {axis: p for axis, p in placements.items() if not is_expert(name) or axis != self.expert_axis}


class BuffersLeftAtHome(production.MixtureLanguageModel):
    """Buffers are not annotated over the expert axis: experts come to the tokens instead of tokens to the experts."""

    def arrived(self) -> Placements:
        return self.sent()


class TokensSentTwice(production.MixtureLanguageModel):
    """Every rank of the tensor axis sends whole tokens, each of them the same ones."""

    def sent(self) -> Placements:
        return {**super().sent(), self.tensor_axis: Replicate()}


class WholeRouterGradient(production.MixtureLanguageModel):
    """The gradient of the router is made whole on every device before it is sharded like its parameter."""

    def router_logits(self, x_BSD: jax.Array, w_DE: jax.Array) -> jax.Array:
        return self.on_rows(x_BSD @ self.constrain(w_DE, {}))


class BuffersAnnotatedTwice(production.MixtureLanguageModel):
    """A control: buffers that have arrived are annotated once more, as they are already."""

    def expert_blocks(self, x_BECD: jax.Array, name: str, p: Named) -> jax.Array:
        return super().expert_blocks(self.constrain(x_BECD, self.arrived()), name, p)


PLANTED: tuple[PlantedPlan, ...] = (
    planted("whole-experts", WholeExperts, "communication", "layers.*.moe.experts.down.weight", "expert"),
    planted("buffers-left-at-home", BuffersLeftAtHome, "communication", "layers.*.moe.experts.down.weight", "expert"),
    planted("tokens-sent-twice", TokensSentTwice, "communication", "", "expert"),
    planted("whole-router-gradient", WholeRouterGradient, "communication", "layers.*.moe.router.weight", "expert"),
)
CONTROLS: Mapping[str, Any] = {"buffers-annotated-twice": BuffersAnnotatedTwice}
