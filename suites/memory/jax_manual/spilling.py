"""Large activations wait in host memory for the backward pass: `jax.checkpoint` offloads them and brings them back.

Law: every bit comes back. On a platform with one kind of memory (the CPU) the moves stand in the traced program and
cost nothing, so values and placement can be shown there, and bytes cannot.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
from jax.extend.core import jaxprs_in_params

from suites.memory.jax_manual.offloading import TO_HOST, result_bytes
from suites.training.jax.recompute import Layer, recomputing

if TYPE_CHECKING:
    from suites.tensor.jax_manual.transformer import LanguageModel as Conforming
else:
    Conforming = object  # a mixin: it comes before the model in the bases


class Spilling(Conforming):
    """A mixin for a training step with decoder layers."""

    def recomputed(self, layer: Layer) -> Layer:
        layer = super().recomputed(layer)
        least = self.contract.recipe.spill
        return layer if least is None else recomputing(layer, partial(where_kept, least))


def where_kept(least: int, primitive: Any, *avals: Any, **parameters: Any) -> Any:
    """On the device (True), or from so many bytes on in host memory; nothing is computed again."""
    return TO_HOST if result_bytes(primitive, avals, parameters) >= least else True


def moved_to_host(program: Any, *arguments: Any) -> list[jax.core.ShapedArray]:
    """What the traced program moves to host memory, each as often as it does."""
    moved: list[Any] = []
    _collect(jax.make_jaxpr(program)(*arguments).jaxpr, moved)
    return moved


def _collect(jaxpr: Any, moved: list[Any]) -> None:
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "device_put":
            moved += [
                variable.aval
                for variable, device in zip(eqn.invars, eqn.params["devices"], strict=True)
                if _is_host(device)
            ]
        for inner in jaxprs_in_params(eqn.params):
            _collect(inner, moved)


def _is_host(device: Any) -> bool:
    return getattr(device, "memory_kind", device) in (jax.memory.Space.Host, "pinned_host")
