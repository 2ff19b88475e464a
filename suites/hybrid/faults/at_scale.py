"""Mistakes that leave every value right and cost memory or time: planted in a plan, found in its compiled program.

None of them can be seen in the numbers of a small run, and none has a symptom but a step that is slow or does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax

from conformance.contract.placements import Placements
from suites.hybrid.jax_automatic import production
from suites.training.jax.state import Named


class WholeEmbeddingGradient(production.LanguageModel):
    """The gradient of the embedding is made whole on every device before it is sharded like its parameter."""

    def mean_gradient(self, name: str, g: jax.Array, weight: jax.Array) -> jax.Array:
        g = self.constrain(g, {}) if name == "embedding.weight" else g
        return super().mean_gradient(name, g, weight)


class WholeMoments(production.LanguageModel):
    """The optimizer slots of the embedding lie whole on every device."""

    def slot_placements(self, name: str) -> Placements:
        return {} if name == "embedding.weight" else super().slot_placements(name)


class GatheredHead(production.LanguageModel):
    """Logits of the whole vocabulary on every rank of the tensor axis: the head is gathered."""

    def logits(self, x_BSD: jax.Array, p: Named) -> jax.Array:
        return self.on_rows(x_BSD) @ self.constrain(p["head.weight"], {})


class OutputOffItsAxis(production.LanguageModel):
    """The output projection of attention is not sharded over the tensor axis, as its input is."""

    rows = ("down",)


class WholeTokens(production.LanguageModel):
    """Between blocks every rank of the tensor axis has all tokens."""

    def stream_placements(self) -> Placements:
        return self.row_placements()


class LastLayerApart(production.LanguageModel):
    """The last layer has a scan of its own, in which tokens are not sharded between its blocks."""

    plain = False

    def scanned(self, x_BSD: jax.Array, batch: Named, layers: Named) -> tuple[jax.Array, Named]:
        x_BSD, _ = super().scanned(x_BSD, batch, {name: value[:-1] for name, value in layers.items()})
        self.plain = True
        x_BSD, _ = super().scanned(x_BSD, batch, {name: value[-1:] for name, value in layers.items()})
        self.plain = False
        return x_BSD, {}

    def stream_placements(self) -> Placements:
        return self.row_placements() if self.plain else super().stream_placements()


class InnocentAnnotation(production.LanguageModel):
    """The result of every column product is annotated by tokens, as the residual stream is, instead of by columns."""

    def linear(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        return self.on_rows(x @ p[f"{name}.weight"])


class AnnotatedTwice(production.LanguageModel):
    """A control: the residual stream is annotated once more, as it is already; nothing is sent more."""

    def scanned(self, x_BSD: jax.Array, batch: Named, layers: Named) -> tuple[jax.Array, Named]:
        x_BSD, seen = super().scanned(self.on_rows(x_BSD), batch, layers)
        return self.on_rows(x_BSD), seen


@dataclass(frozen=True, kw_only=True)
class PlantedPlan:
    """A mistake and what has to be said of it: the check, the tensor ('' for activations) and an axis."""

    name: str
    program: type
    check: str
    tensor: str
    axis: str


def planted(name: str, program: type, check: str, tensor: str, axis: str) -> PlantedPlan:
    return PlantedPlan(name=name, program=program, check=check, tensor=tensor, axis=axis)


PLANTED: tuple[PlantedPlan, ...] = (
    planted("whole-embedding-gradient", WholeEmbeddingGradient, "communication", "embedding.weight", "fsdp"),
    planted("whole-moments", WholeMoments, "memory", "embedding.weight", "fsdp"),
    planted("gathered-head", GatheredHead, "communication", "head.weight", "tensor"),
    planted("output-off-its-axis", OutputOffItsAxis, "memory", "layers.*.attention.output.weight", "tensor"),
    planted("whole-tokens", WholeTokens, "communication", "", "tensor"),
    planted("last-layer-apart", LastLayerApart, "communication", "", "tensor"),
    planted("innocent-annotation", InnocentAnnotation, "communication", "", "tensor"),
)
CONTROLS: Mapping[str, Any] = {"annotated-twice": AnnotatedTwice}
