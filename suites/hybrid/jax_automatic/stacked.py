"""Decoder layers whose parameters lie stacked in one array each, and a program that scans over them.

A scan makes the program, and the time to compile it, independent of the number of layers: what is compiled for
thousands of devices is this program, and at small sizes it is compared with the reference like any other. Parameters
and optimizer slots are sharded over `fsdp`, matrices over `tensor` besides, rows over `data` and `fsdp`, tokens of the
residual stream over `sequence` and `tensor`.
L: layers  B: rows  S: tokens  D: hidden
Sources: Xu et al., GSPMD, section 3.3 (stacked layers in a loop); Korthikanti et al., Reducing Activation Recomputation
in Large Transformer Models, section 4.2 (tokens over the tensor axis).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.contract.budget import Allowance
from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placement, Placements, Replicate, Shard, sharded_dim
from suites.data.jax_automatic.sharded import FullyAnnotated
from suites.data.layout import Positions
from suites.hybrid.budget import Sizes, of_judged, scanned
from suites.sequence.jax_automatic import transformer
from suites.training.jax.state import Named

EVERY = "layers.*"


class LanguageModel(FullyAnnotated, transformer.LanguageModel):
    """`layers.*.attention.query.weight` holds `layers.0.attention.query.weight` and its kin, [L, ...]."""

    columns = (*transformer.LanguageModel.columns, "embedding")
    rows = tuple(row for row in transformer.LanguageModel.rows if row != "embedding")

    def budget(self) -> Iterable[Allowance]:
        case = self.contract, self.mesh, self.dtype
        return chain(scanned(*case), of_judged(Sizes(*case)))

    # Names.

    @cached_property
    def stored_names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(stacked_name(name) for name in self.contract.shapes))

    def stacked(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Canonical arrays -> those of all layers on top of each other."""
        return {name: np.stack([values[n] for n in self.layer_names(name)]) if EVERY in name else values[name]
                for name in self.stored_names}  # fmt: skip

    def unstacked(self, values: Named) -> Named:
        """The inverse, of observations too: `gradients/layers.*.x` -> `gradients/layers.0.x` and its kin."""
        apart: Named = {}
        for name, value in values.items():
            apart |= {n: value[i] for i, n in enumerate(self.layer_names(name))} if EVERY in name else {name: value}
        return apart

    def layer_names(self, name: str) -> list[str]:
        return [name.replace(EVERY, f"layers.{i}") for i in range(self.contract.model.layers)]

    # Layout: that of a single layer, one dim further back.

    def shard_dim(self, name: str) -> int:
        """The dim that the tensor axis leaves, so that a gather over fsdp gives whole rows or columns of a block."""
        tensor_dim = sharded_dim(self.computed_placements(name).get(self.tensor_axis, Replicate()))
        return 1 if tensor_dim == 0 and len(self.contract.shapes[name]) > 1 else 0

    def placements(self, name: str) -> Placements:
        placements = super().placements(_first_layer(name))
        return {axis: behind(p) for axis, p in placements.items()} if EVERY in name else placements

    def positions(self, name: str) -> Positions:
        positions = super().positions(_first_layer(name))
        return {dim + 1: order for dim, order in positions.items()} if EVERY in name else positions

    def canonical(self, p: Named) -> Named:
        """Parameters without the padding of their last blocks."""
        cut = {}
        for name, value in p.items():
            shape = self.contract.shapes[_first_layer(name)]
            cut[name] = value[(..., *map(slice, shape))]
        return cut

    # The protocol.

    def state(self, parameters: Mapping[str, np.ndarray]) -> dict:
        return super().state(self.stacked(parameters))

    def whole_step(self, state: dict, batch: Named) -> tuple[dict, Named]:
        state, observed = super().whole_step(state, batch)
        return state, {name: self.in_place(name, value) for name, value in self.unstacked(observed).items()}

    # Accumulation.

    def accumulate(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """Slices that take in rows of every device, so that nothing is sent to make them.

        Rows lie in chunks: slice i of k has the rows i, i + k, ... Sums over all slices do not depend on it.
        """
        sizes = self.slice_sizes(len(batch["mask"]))
        if len(sizes) == 1 or len(set(sizes)) > 1:
            return super().accumulate(parameters, batch)
        parts = {key: self.dealt(key, value, len(sizes)) for key, value in batch.items()}

        def add(summed: Named, part: Named) -> tuple[Named, tuple[Named, Named]]:
            part = {key: self.constrain(value, self.batch_placements(key)) for key, value in part.items()}
            gradients, sums, rows = self.slice_gradients(parameters, part)
            return self.kept_apart(self.add_gradients(summed, gradients)), (sums, rows)

        gradients, (sums, rows) = jax.lax.scan(add, self.kept_apart(self.no_gradients(parameters)), parts)
        rows = {name: value.swapaxes(0, 1).reshape(-1, *value.shape[2:]) for name, value in rows.items()}
        return gradients, {name: value.sum(0) for name, value in sums.items()}, rows

    def dealt(self, key: str, value: jax.Array, slices: int) -> jax.Array:
        """[B, ...] -> [slices, B / slices, ...], each device with the rows that it had."""
        dealt = value.reshape(-1, slices, *value.shape[1:]).swapaxes(0, 1)
        placements = {axis: behind(placement) for axis, placement in self.batch_placements(key).items()}
        return self.constrain(dealt, placements)

    def kept_apart(self, gradients: Named) -> Named:
        """Sums of gradients with the shardings of what they are gradients of."""
        return {name: self.constrain(g, self.gradient_placements(name)) for name, g in gradients.items()}

    def in_place(self, name: str, value: jax.Array) -> jax.Array:
        """The gradient of a layer with the sharding that it had among those of all layers."""
        kind, _, parameter = name.partition("/")
        return self.constrain(value, self.gradient_placements(parameter)) if kind == "gradients" else value

    def collect(self, state: dict) -> Mapping[str, Any]:
        slots = {slot: self.unstacked(values) for slot, values in state["optimizer"].items()}
        return super().collect({**state, "parameters": self.unstacked(state["parameters"]), "optimizer": slots})

    # The model.

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        p, observed = self.canonical(p), {}
        x_BSD = observed["activations/embedding"] = self.entered(p, batch)
        x_BSD, seen = self.scanned(x_BSD, batch, of_layers(p))
        loss, weight, at_end = self.left(x_BSD, p, batch)
        return loss, weight, observed | self.unstacked(seen) | at_end

    def entered(self, p: Named, batch: Named) -> jax.Array:
        """The residual stream in front of the first layer."""
        return self.add_positions(self.embed(batch["tokens"], p))

    def left(self, x_BSD: jax.Array, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        """Behind the last layer: (sum of losses, number of elements in it, observations)."""
        observed: Named = {}
        x_BSD = observed["activations/final_norm"] = self.norm(x_BSD, "final_norm", p)
        logits_BSV = observed["outputs/logits"] = self.logits(x_BSD, p)
        entropy_BS, z_BS = self.token_losses(logits_BSV, self.targets(batch))
        mask_BS = batch["mask"].astype(self.master)
        losses_BS = observed["outputs/token_losses"] = mask_BS * (entropy_BS + z_BS)
        observed["metrics/cross_entropy"] = jnp.sum(mask_BS * entropy_BS)
        observed["metrics/z_loss"] = jnp.sum(mask_BS * z_BS)
        return jnp.sum(losses_BS), jnp.sum(mask_BS), observed

    def scanned(self, x_BSD: jax.Array, batch: Named, layers: Named) -> tuple[jax.Array, Named]:
        """The residual stream behind all layers, and what they observed, stacked as they are."""
        return jax.lax.scan(self.layer(batch), x_BSD, layers)

    def layer(self, batch: Named):
        """(x, parameters of one layer) -> (x after it, what it observed), as `jax.lax.scan` wants it."""

        def layer(x_BSD: jax.Array, own: Named) -> tuple[jax.Array, Named]:
            seen: Named = {}
            x_BSD = self.on_rows(self.decoder_layer(x_BSD, batch, EVERY, own, seen))
            return x_BSD, seen | {f"activations/{EVERY}": x_BSD}

        return jax.checkpoint(layer) if self.recomputes else layer

    def embed(self, tokens_BS: jax.Array, p: Named) -> jax.Array:
        """Each rank of the tensor axis looks up its features of all tokens, in a weight gathered over fsdp.

        A lookup in rows that are sharded would gather them, and sum the gradient of the whole vocabulary.
        """
        stored, computed = (layout("embedding.weight") for layout in (self.placements, self.computed_placements))
        weight_VD = self.constrain_both(self.constrain(p["embedding.weight"], stored), computed, stored)
        return self.on_rows(self.on_tensor(self.looked_up(weight_VD, tokens_BS), 2))

    def looked_up(self, weight_VD: jax.Array, tokens_BS: jax.Array) -> jax.Array:
        """Rows of the weight, whose gradient is that of each part of the copies by itself, and then their sum.

        Otherwise it is summed whole over all devices with rows, before each keeps its part. G: parts of the tokens, one
        for each place on the data and sequence axes, whose devices store the same rows. N: tokens of a part
        """
        copies, features = {axis: Shard(0) for axis in ("data", *self.token_axes)}, {self.tensor_axis: Shard(2)}
        placements = {axis: behind(p) for axis, p in self.placements("embedding.weight").items()} | copies

        @jax.custom_vjp
        def look_up(weight_VD: jax.Array) -> jax.Array:
            return weight_VD[tokens_BS]

        def gradient(_: None, g_BSD: jax.Array) -> tuple[jax.Array]:
            tokens_GN, g_GND = self.by_copy(tokens_BS), self.by_copy(g_BSD)
            if g_GND.shape[1] < len(weight_VD):  # less is sent if each device adds up the rows that it stores
                tokens_GN, g_GND = self.constrain(tokens_GN, copies), self.constrain(g_GND, copies | features)
            empty_VD = jnp.zeros(weight_VD.shape, weight_VD.dtype)
            sums_GVD = jax.vmap(lambda tokens_N, g_ND: empty_VD.at[tokens_N].add(g_ND))(tokens_GN, g_GND)
            zero = np.zeros((), sums_GVD.dtype)  # the sum over devices is one of the compute dtype, as of any weight
            return (jax.lax.reduce(self.constrain(sums_GVD, placements), zero, jax.lax.add, (0,)),)

        look_up.defvjp(lambda weight_VD: (look_up(weight_VD), None), gradient)
        return look_up(weight_VD)

    def by_copy(self, x_BS: jax.Array) -> jax.Array:
        """[B, S, ...] -> [G, N, ...]: the tokens of each place on the data and sequence axes."""
        data, length = self.mesh.size("data"), math.prod(self.mesh.size(axis) for axis in self.token_axes)
        rows, tokens, *others = x_BS.shape
        x = x_BS.reshape(data, rows // data, length, tokens // length, *others)
        return x.swapaxes(1, 2).reshape(data * length, -1, *others)

    def attention(self, x_BSD: jax.Array, batch: Named, name: str, p: Named) -> jax.Array:
        return super().attention(self.gathered(x_BSD), batch, name, p)

    def feedforward(self, x_BSD: jax.Array, name: str, p: Named) -> jax.Array:
        return super().feedforward(self.gathered(x_BSD), name, p)

    def gathered(self, x_BSD: jax.Array) -> jax.Array:
        """The tokens of all ranks of the tensor axis, before a product whose columns are sharded over it.

        The gradient that comes back is that of a rank's own tokens: its sum over the axis is scattered at once. Nor is
        anything gathered before the norm has rounded it.
        """
        return self.constrain_both(self.on_rows(x_BSD), self.row_placements(), self.stream_placements())

    def block_positions(self) -> jax.Array:
        """Known to every device, whatever else is made of them."""
        return self.constrain(jnp.arange(self.row_length), {})

    def visible(self, batch: Named) -> jax.Array:
        """Worked out on every rank of the tensor axis; what else reads the mask would have parts of it sent."""
        whole_BS = self.constrain(batch["attention_mask"], self.row_placements())
        return self.constrain(super().visible({**batch, "attention_mask": whole_BS}), self.row_placements())

    def linear(self, x: jax.Array, name: str, p: Named) -> jax.Array:
        """Said of the product itself: what follows would let the partitioner gather a weight instead."""
        weight = f"{name}.weight"
        y = self.with_whole(weight, p, partial(super().linear, x, name))
        sharded = sharded_dim(self.computed_placements(_first_layer(weight)).get(self.tensor_axis, Replicate()))
        if sharded == 0:
            return self.scattered(y)
        return self.on_tensor(y, 2) if sharded == 1 else self.on_rows(y)

    def scattered(self, x_BSD: jax.Array) -> jax.Array:
        """Each rank of the tensor axis keeps its tokens of a product whose rows are sharded over it.

        The gradient that comes back is gathered once for the two products behind it: left to itself the partitioner
        gathers it for each of them where a device has one row. The barrier keeps what else reads it on its own tokens.
        """
        kept_BSD = self.constrain_both(x_BSD, self.stream_placements(), self.row_placements())
        return jax.lax.optimization_barrier(kept_BSD)

    def logits(self, x_BSD: jax.Array, p: Named) -> jax.Array:
        """Tokens are gathered once, for the product and for the gradient of its weight."""
        product = partial(super().logits, self.gathered(x_BSD))
        return product(p) if self.contract.model.tied else self.with_whole("head.weight", p, product)

    def with_whole(self, name: str, p: Named, product: Callable[[Named], jax.Array]) -> jax.Array:
        """A product with a weight that is gathered over the axes that divide its state, and over no other.

        Where two axes have the same size, the partitioner would take one for the other. The whole weight is not kept
        for the backward pass, but gathered again; its gradient lies as it does.
        """
        computed, stored = (of(_first_layer(name)) for of in (self.computed_placements, self.placements))

        def of_whole(weight: jax.Array) -> jax.Array:
            return product(p | {name: self.constrain_both(weight, computed, stored)})

        return jax.checkpoint(of_whole, prevent_cse=False)(p[name])

    def require_supported(self) -> None:
        super().require_supported()
        if self.contract.model.dropout:
            raise Unsupported("Scanned layers have no random numbers of their own: this program has no dropout.")


def of_layers(p: Named) -> Named:
    """The parameters of all layers, stacked."""
    return {name: value for name, value in p.items() if EVERY in name}


def stacked_name(name: str) -> str:
    head, layers, rest = name.partition("layers.")
    return f"{head}{EVERY}.{rest.partition('.')[2]}" if layers else name


def _first_layer(name: str) -> str:
    return name.replace(EVERY, "layers.0")


def behind(placement: Placement) -> Placement:
    return Shard(placement.dim + 1) if isinstance(placement, Shard) else placement
