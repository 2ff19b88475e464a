"""One rank of a pipeline on its own devices: its layers under a scan, a forward and a backward pass of a microbatch.

What entered each layer is kept, and the layer computed again in the backward pass; the last rank computes its head in
the backward pass alone. Passes take what arrived and give what is handed on: who calls them moves it.
L: layers of the rank  B: rows of a microbatch  S: tokens  D: hidden
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding

from conformance.contract.contract import Contract
from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements
from suites.hybrid.budget_stages import Part, with_layers
from suites.hybrid.jax_automatic import stacked
from suites.hybrid.jax_automatic.stacked import EVERY, of_layers
from suites.training.jax.state import Named, arranged


class Kept(NamedTuple):
    """Of a microbatch that waits for its backward pass: what entered each layer; at the last rank, what left them."""

    entered: jax.Array
    left: jax.Array | None


class Results(NamedTuple):
    """Of a backward pass: for the rank before, gradients so far, sums over rows, and what was observed row by row."""

    gradient: jax.Array
    gradients: Named
    sums: Named
    rows: Named


class Stage(stacked.LanguageModel):
    """The part of a model that a rank has; names are those of the whole model."""

    def __init__(self, contract: Contract, mesh: Mesh, dtype: str, part: Part) -> None:
        super().__init__(replace(contract, model=with_layers(contract.model, part.layers)), mesh, dtype)
        self.part = part

    @cached_property
    def stored_names(self) -> tuple[str, ...]:
        every = dict.fromkeys(stacked.stacked_name(name) for name in self.contract.shapes)
        return tuple(name for name in every if self.part.has(name))

    def layer_names(self, name: str) -> list[str]:
        return [name.replace(EVERY, f"layers.{self.part.start + i}") for i in range(self.part.layers)]

    @property
    def microbatches(self) -> int:
        return self.contract.recipe.microbatches

    def dealt_batch(self, batch: Named) -> Named:
        """[rows, ...] -> [microbatches, B, ...], each device with the rows that it had."""
        return {key: self.dealt(key, value, self.microbatches) for key, value in batch.items()}

    def on_devices(self, rows: Named) -> Named:
        return {key: self.constrain(value, self.batch_placements(key)) for key, value in rows.items()}

    # Passes.

    def forward_pass(self, parameters: Named, arrived_BSD: jax.Array, rows: Named) -> tuple[jax.Array, Kept]:
        """(what is handed to the next rank, what waits); the first rank reads tokens, and nothing arrives there."""
        p, rows = self.computed(self.wide(parameters)), self.on_devices(rows)
        x_BSD = self.entered(p, rows) if self.part.is_first else self.on_rows(arrived_BSD)

        def layer(x_BSD: jax.Array, own: Named) -> tuple[jax.Array, jax.Array]:
            return self.after(x_BSD, own, rows), x_BSD

        left_BSD, entered_LBSD = jax.lax.scan(layer, x_BSD, of_layers(p))
        return left_BSD, Kept(entered=entered_LBSD, left=left_BSD if self.part.is_last else None)

    def after(self, x_BSD: jax.Array, own: Named, rows: Named) -> jax.Array:
        """The residual stream behind one layer."""
        return self.on_rows(self.decoder_layer(x_BSD, rows, EVERY, own, {}))

    def backward_pass(
        self, parameters: Named, kept: Kept, arrived_BSD: jax.Array, rows: Named, gradients: Named
    ) -> Results:
        """Gradients of a microbatch, added to those before it; at the last rank nothing arrives."""
        p, pull = jax.vjp(self.computed, self.wide(parameters))
        rows = self.on_devices(rows)
        g_BSD, of_head, sums, seen = self.head_pass(p, kept, rows) if self.part.is_last else (arrived_BSD, {}, {}, {})

        def layer(g_BSD: jax.Array, inputs: tuple[jax.Array, Named]) -> tuple[jax.Array, Named]:
            _, back = jax.vjp(lambda x_BSD, own: self.after(x_BSD, own, rows), *inputs)
            return back(g_BSD)

        g_BSD, new = jax.lax.scan(layer, self.on_rows(g_BSD), (kept.entered, of_layers(p)), reverse=True)
        if self.part.is_first:
            _, back = jax.vjp(lambda table: self.entered({**p, **table}, rows), self.only(p, "embedding."))
            new |= back(g_BSD)[0]
        [new] = pull(new | of_head)
        rounded = {name: self.round_gradient(g) for name, g in new.items()}
        return Results(g_BSD, self.kept_apart(self.add_gradients(gradients, rounded)), sums, seen)

    def head_pass(self, p: Named, kept: Kept, rows: Named) -> tuple[jax.Array, Named, Named, Named]:
        """The head forward and backward: (gradient of what left the layers, of parameters, sums, observations)."""

        def loss(x_BSD: jax.Array, own: Named) -> tuple[jax.Array, tuple[jax.Array, Named]]:
            loss, weight, seen = self.left(x_BSD, {**p, **own}, rows)
            return loss, (weight, seen)

        own = self.only(p, "head.", "final_norm.")
        differentiated = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (loss_sum, (weight, seen)), (g_BSD, of_head) = differentiated(kept.left, own)
        metrics = {name: seen.pop(name) for name in list(seen) if name.startswith("metrics/")}
        return g_BSD, of_head, {"loss": loss_sum, "weight": weight, **metrics}, seen

    def computed(self, wide: Named) -> Named:
        return self.canonical(self.to_compute(wide))

    def wide(self, parameters: Named) -> Named:
        return {name: p.astype(self.master) for name, p in parameters.items()}

    def only(self, p: Named, *prefixes: str) -> Named:
        return {name: value for name, value in p.items() if name.startswith(prefixes)}

    # The end of a step.

    def mean_gradients(self, gradients: Named, weight: jax.Array) -> tuple[Named, jax.Array]:
        """(gradients of the mean loss, the sum of their squares)."""
        means = {name: self.mean_gradient(name, g, jnp.where(weight == 0, 1, weight)) for name, g in gradients.items()}
        return means, self.global_norm(self.wide(means)) ** 2

    def updated(self, state: dict, gradients: Named, norm: jax.Array) -> dict:
        return self.update(state, self.wide(gradients), self.clip_factor(norm))

    def blank(self, rows: Mapping[str, Any]) -> jax.Array:
        """What arrives where nothing does: the stream of a microbatch, of zeros."""
        shape = (*rows["mask"].shape, self.contract.model.hidden)
        return self.constrain(jnp.zeros(shape, self.compute), self.stream_placements())

    # The same as programs by themselves, for a pipeline that is run.

    @cached_property
    def forwards(self) -> Any:
        return jax.jit(self.forward_pass)

    @cached_property
    def backwards(self) -> Any:
        return jax.jit(self.backward_pass)

    @cached_property
    def averaged(self) -> Any:
        return jax.jit(self.mean_gradients)

    @cached_property
    def applied(self) -> Any:
        shardings = jax.tree.map(lambda spec: NamedSharding(self.device_mesh, spec), self.state_specs())
        return jax.jit(self.updated, out_shardings=shardings)

    def arriving(self, batch: Mapping[str, Any]) -> Named:
        """A whole batch on the devices of this rank, dealt into microbatches."""
        self.require_whole_rows(len(batch["mask"]))
        at = {key: NamedSharding(self.device_mesh, self.spec(self.batch_placements(key))) for key in batch}
        return jax.jit(self.dealt_batch)({key: jax.device_put(value, at[key]) for key, value in batch.items()})

    def nothing(self, parameters: Named) -> Named:
        """No gradients yet."""
        return jax.jit(lambda p: self.kept_apart(self.no_gradients(p)))(parameters)

    def put_blank(self, rows: Named) -> jax.Array:
        return jax.jit(self.blank)(rows)

    def joined(self, name: str, slices: list[jax.Array]) -> jax.Array:
        """Rows of microbatches, in the order of the batch that they were dealt from."""

        def join(slices: list[jax.Array]) -> jax.Array:
            stacked_MB = jnp.stack(slices)
            return self.observation(name, stacked_MB.swapaxes(0, 1).reshape(-1, *stacked_MB.shape[2:]))

        return jax.jit(join)(slices)

    def told(self, observed: Named) -> dict[str, Any]:
        """What was observed, with its order where that is not canonical."""
        return {name: arranged(value, self.observed_positions(name)) for name, value in observed.items()}

    def declared_layout(self, names: list[str]) -> dict[str, Placements]:
        """Parameters, slots and gradients by name."""
        kinds = ["", *(f"optimizer/{slot}/" for slot in self.slot_names), "gradients/"]
        return {f"{kind}{name}": self.placements(name) for kind in kinds for name in names}

    def require_supported(self) -> None:
        super().require_supported()
        if self.contract.recipe.recompute != "layer":
            raise Unsupported("A stage keeps what enters its layers: the recipe computes each of them again.")
        if self.contract.model.tied or self.contract.model.experts:
            raise Unsupported("A stage has layers that are dense and alike, and an end has its own table.")
        rows, parts = self.batch_shapes["mask"][0], self.size(self.row_axes)
        if rows % (parts * self.microbatches):
            raise Unsupported(
                f"{rows} rows cannot be divided over {parts} devices and into {self.microbatches} microbatches on each."
            )
