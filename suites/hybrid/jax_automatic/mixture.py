"""A mixture of experts by annotation: the scanned program with tokens that are exchanged over the expert axis.

Rows are divided over `data`, `fsdp` and `expert`, so that to dense parameters the expert axis is one more that divides
their state. Experts are divided over `expert`, the hidden features of each over `tensor`, and what is stored of them
over `fsdp`. Each row puts its tokens into a buffer with so many places for every expert. No exchange is written: the
buffers of a device's rows for all experts are annotated to be those of all rows for a device's experts, and back.
On the way a buffer's features are divided over `tensor`, since all ranks of that axis have the same tokens: what leaves
a device is sent once, and gathered by the fast links of a node.
B: rows  S: tokens  K: choices of a token  D: hidden  E: experts  C: places of an expert in a row  F: hidden features
G: gate and up
Sources: Lepikhin et al., GShard, section 3.2 (annotations of a mixture); Singh et al., A Hybrid Tensor-Expert-Data
Parallelism Approach, section V-A (no token is sent twice).
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from conformance.contract.budget import Allowance
from conformance.contract.implementation import Unsupported
from conformance.contract.placements import Placements, Replicate, Shard, sharded_dim
from reference.architecture import has_mixture
from suites.hybrid.budget import of_judged
from suites.hybrid.budget_mixture import MixtureSizes, scanned_mixture
from suites.hybrid.jax_automatic import stacked
from suites.hybrid.jax_automatic.stacked import EVERY
from suites.moe.jax import routing
from suites.moe.jax.routed import RoutedBlock
from suites.moe.layout import TERMS, is_expert
from suites.sequence.jax_automatic import transformer
from suites.training.jax.state import Named


class MixtureBlock(RoutedBlock, transformer.LanguageModel):
    """All rows are at hand, whoever holds them; what is below says where the values of a mixture lie."""

    def router_logits(self, x_BSD: jax.Array, w_DE: jax.Array) -> jax.Array:
        """Of a device's own tokens for all experts; what its tokens say of the weight is sent to who stores it."""
        whole_DE = self.constrain_both(w_DE, {}, self.placements(f"{self.mixtures[0]}.router.weight"))
        return self.on_rows(self.of_own_tokens(self.on_rows(x_BSD), whole_DE))

    def of_own_tokens(self, x_BSD: jax.Array, w_DE: jax.Array) -> jax.Array:
        """x @ w, whose gradient of w is first that of each device's tokens by itself, and then their sum.

        Otherwise the tokens of all ranks of the tensor axis are gathered for a product of few columns. The sum is first
        one over the axes that divide what is stored, then one over copies. P: places on the data axis
        """

        @jax.custom_vjp
        def product(x_BSD: jax.Array, w_DE: jax.Array) -> jax.Array:
            return x_BSD @ w_DE

        def gradients(kept: tuple[jax.Array, jax.Array], g_BSE: jax.Array) -> tuple[jax.Array, jax.Array]:
            x_BSD, w_DE = kept
            own_PGDE = jnp.einsum("pgnd,pgne->pgde", self.by_device(x_BSD), self.by_device(g_BSE))
            stored_PDE = self.constrain(_sum(self.on_devices(own_PGDE), 1), self.on_devices_of_copies())
            return g_BSE @ w_DE.T, _sum(stored_PDE, 0)

        product.defvjp(lambda x_BSD, w_DE: (product(x_BSD, w_DE), (x_BSD, w_DE)), gradients)
        return product(x_BSD, w_DE)

    def by_device(self, x_BSD: jax.Array) -> jax.Array:
        """[B, S, ...] -> [P, G, N, ...]: the tokens of each device, by the place on the data axis."""
        (rows, tokens, *others), parts = x_BSD.shape, self.size(self.row_axes)
        shares = self.tensor_size() if self.tensor_axis in self.stream_placements() else 1
        x = x_BSD.reshape(parts, rows // parts, shares, tokens // shares, *others).swapaxes(1, 2)
        own = rows * tokens // (parts * shares)
        return self.on_devices(x.reshape(self.mesh.size("data"), -1, own, *others))

    def on_devices(self, x_PG: jax.Array) -> jax.Array:
        """[P, G, ...]: what each device has by itself."""
        shares = x_PG.shape[0] * x_PG.shape[1] > self.size(self.row_axes)
        copies = {} if shares else {self.tensor_axis: Replicate()}
        return self.constrain(x_PG, {**self.on_devices_of_copies(), **copies})

    def on_devices_of_copies(self) -> Placements:
        """The first dim over data, the second over the axes that divide what is stored."""
        return {"data": Shard(0), **dict.fromkeys((*self.row_axes[1:], self.tensor_axis), Shard(1))}

    def admitted(self, choices_BSK: jax.Array) -> jax.Array:
        """Counted over whole rows, alike on every rank of the tensor axis."""
        return super().admitted(self.constrain(choices_BSK, self.row_placements()))

    def mixed(self, x_BSD: jax.Array, gates_BSK: jax.Array, admitted_BSK: jax.Array, name: str, p: Named) -> jax.Array:
        """Some features of all tokens of a row, for as long as tokens lie in the order of their experts.

        Tokens are on their rows first: otherwise they are exchanged before the norm has rounded them, and so are
        their gradients.
        """
        gates_BSK = self.constrain(gates_BSK, self.row_placements())
        features_BSD = self.on_tensor(self.on_rows(x_BSD), 2)
        return self.on_rows(self.on_tensor(super().mixed(features_BSD, gates_BSK, admitted_BSK, name, p), 2))

    def exchanged(self, read_BSKD: jax.Array, admitted_BSK: jax.Array, name: str, p: Named) -> jax.Array:
        places_BN = self.buffer_places(admitted_BSK).reshape(len(read_BSKD), -1)
        buffers_BECD = self.filled(places_BN, read_BSKD.reshape(*places_BN.shape, -1))
        arrived_BECD = self.constrain(self.constrain(buffers_BECD, self.sent()), self.arrived())
        said_BECD = self.constrain(self.expert_blocks(arrived_BECD, name, p), self.arrived())
        returned_BECD = self.constrain(said_BECD, self.sent())
        flat_BPD = returned_BECD.reshape(len(read_BSKD), -1, read_BSKD.shape[-1])
        said_BND = jax.vmap(lambda said, at: said.at[at].get(mode="fill", fill_value=0))(flat_BPD, places_BN)
        return self.on_tensor(said_BND.reshape(read_BSKD.shape), 3)

    def buffer_places(self, admitted_BSK: jax.Array) -> jax.Array:
        """Where in the buffer of its row each choice stands: by expert and number; beyond its end for -1."""
        experts = self.contract.model.experts
        place_BSK = admitted_BSK * self.places_in_row + routing.numbered(admitted_BSK, experts)
        return jnp.where(admitted_BSK >= 0, place_BSK, experts * self.places_in_row)

    def filled(self, places_BN: jax.Array, read_BND: jax.Array) -> jax.Array:
        """Buffers with each choice in its place, to which nothing else is added."""
        experts, capacity = self.contract.model.experts, self.places_in_row
        empty_PD = jnp.zeros((experts * capacity, read_BND.shape[-1]), read_BND.dtype)
        fill = jax.vmap(lambda at_N, read_ND: empty_PD.at[at_N].add(read_ND, mode="drop"))
        return fill(places_BN, read_BND).reshape(len(read_BND), experts, capacity, -1)

    def sent(self) -> Placements:
        """A row's own buffers, for all experts."""
        return {**self.row_placements(), self.tensor_axis: Shard(3)}

    def arrived(self) -> Placements:
        """The buffers of one expert from all rows that the expert axis divides."""
        return {**self.sent(), self.expert_axis: Shard(1)}

    def expert_blocks(self, x_BECD: jax.Array, name: str, p: Named) -> jax.Array:
        """Every expert on all places of its buffers."""
        gathered = {**self.arrived(), self.tensor_axis: Replicate()}
        whole_BECD = self.constrain_both(x_BECD, gathered, self.arrived())
        if self.contract.model.activation == "gelu":
            hidden_BECF = jax.nn.gelu(self.columns_of_experts(whole_BECD, name, ("up",), p)[0], approximate=True)
        else:
            gate_BECF, up_BECF = self.columns_of_experts(whole_BECD, name, ("gate", "up"), p)
            hidden_BECF = jax.nn.silu(gate_BECF) * up_BECF
        hidden_BECF = self.constrain(hidden_BECF, self.arrived())
        y_BECD = jnp.einsum("becf,efd->becd", hidden_BECF, self.whole_block(f"{name}.experts.down.weight", p))
        y_BECD, bias = self.constrain_both(y_BECD, self.arrived(), gathered), f"{name}.experts.down.bias"
        return y_BECD + self.whole_block(bias, p)[:, None] if bias in p else y_BECD

    def columns_of_experts(self, x_BECD: jax.Array, name: str, parts: tuple[str, ...], p: Named) -> list[jax.Array]:
        columns = side_by_side(x_BECD, [self.whole_block(f"{name}.experts.{part}.weight", p) for part in parts])
        biases = [f"{name}.experts.{part}.bias" for part in parts]
        return [
            y_BECF + self.whole_block(bias, p)[:, None] if bias in p else y_BECF
            for y_BECF, bias in zip(columns, biases, strict=True)
        ]

    def whole_block(self, name: str, p: Named) -> jax.Array:
        """A parameter as it is computed with, gathered over the axis that divides its state; its gradient is not."""
        first = name.replace(EVERY, "layers.0")
        return self.constrain_both(p[name], self.computed_placements(first), self.placements(first))

    # The training step.

    def note_terms(self, name: str, *given) -> None:
        """Loads are summed where the choices are, though they move biases that are stored in parts."""
        super().note_terms(name, *given)
        observed, load = given[-1], f"metrics/load/{name}"
        observed[load] = self.constrain(observed[load], {})

    def sum_over_data(self, x: jax.Array) -> jax.Array:
        return x

    def require_supported(self) -> None:
        super().require_supported()
        model, size = self.contract.model, self.expert_size()
        if not all(has_mixture(model, layer) for layer in range(model.layers)):
            raise Unsupported("Scanned layers are alike: all of them have a mixture, or none has.")
        if model.capacity_factor and model.capacity_scope == "batch":
            raise Unsupported("Buffers are those of a row: places cannot be counted over a whole batch.")
        if model.experts % size:
            raise Unsupported(f"{model.experts} experts cannot be divided over {size} devices of the expert axis.")


class LanguageModel(stacked.LanguageModel, MixtureBlock):
    """A decoder language model all of whose layers have a mixture."""

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp", "expert")
    inner_axes: ClassVar[tuple[str, ...]] = ("expert", "tensor")

    def budget(self) -> Iterable[Allowance]:
        case = self.contract, self.mesh, self.dtype
        return chain(scanned_mixture(*case), of_judged(MixtureSizes(*case)))

    rows = (*stacked.LanguageModel.rows, "router")

    # Layout.

    def shard_dim(self, name: str) -> int:
        """Of an expert, too, the dim that the tensor axis leaves; a router is whole wherever it is computed with."""
        if not is_expert(name):
            return 0 if ".router." in name else super().shard_dim(name)
        tensor_dim = sharded_dim(self.computed_placements(name).get(self.tensor_axis, Replicate()))
        return 2 if tensor_dim == 1 and len(self.contract.shapes[name]) > 2 else 1

    def sharded_placements(self, name: str) -> Placements:
        """Dense parameters are stored in parts over the expert axis too."""
        placements = super().sharded_placements(name)
        own = {} if is_expert(name) else {self.expert_axis: placements[self.shard_axis]}
        return {**placements, **own}

    def others(self, name: str) -> int:
        return super().others(name) * (1 if is_expert(name) else self.expert_size())

    # The model.

    def forward(self, p: Named, batch: Named) -> tuple[jax.Array, jax.Array, Named]:
        return self.with_terms(*super().forward(p, batch))

    def scanned(self, x_BSD: jax.Array, batch: Named, layers: Named) -> tuple[jax.Array, Named]:
        """Prescribed choices are handed to their layers; terms of the loss and loads stay those of all layers."""
        if prescribed := [batch[key] for key in self.layer_names(f"routing.{EVERY}.moe") if key in batch]:
            layers = layers | {f"routing.{EVERY}.moe": jnp.stack(prescribed)}
        x_BSD, seen = super().scanned(x_BSD, batch, layers)
        terms = {f"terms/{term}": jnp.mean(seen.pop(f"terms/{term}/{EVERY}.moe")) for term in TERMS}
        return x_BSD, seen | terms | {"metrics/load/": seen.pop(f"metrics/load/{EVERY}.moe")}

    def decoder_layer(self, x_BSD: jax.Array, batch: Named, name: str, p: Named, observed: Named) -> jax.Array:
        prescribed = {key: value for key, value in p.items() if key.startswith("routing.")}
        return super().decoder_layer(x_BSD, batch | prescribed, name, p, observed)

    def mean_of_mixtures(self, term: str, observed: Named) -> jax.Array:
        return observed.pop(f"terms/{term}")

    # The training step.

    def loads(self, sums: Named) -> Named:
        return {f"{EVERY}.moe.router.bias": sums["metrics/load/"]}

    def finished_sums(self, sums: Named, weight: jax.Array) -> Named:
        finished = super().finished_sums(sums, weight)
        return finished | {f"metrics/load/{EVERY}.moe": finished.pop("metrics/load/")}

    def stored_part(self, name: str, whole: jax.Array) -> jax.Array:
        """As it is stored, with the padding of its last blocks."""
        for dim, stored in self.positions(name).items():
            whole = jnp.pad(whole, [(0, len(stored) - n if d == dim else 0) for d, n in enumerate(whole.shape)])
        return self.constrain(whole, self.placements(name))


def _sum(x: jax.Array, dim: int) -> jax.Array:
    """In the dtype of x, as any sum of the gradients of devices is."""
    return jax.lax.reduce(x, np.zeros((), x.dtype), jax.lax.add, (dim,))


@jax.custom_vjp
def side_by_side(x_BECD: jax.Array, weights_EDF: list[jax.Array]) -> list[jax.Array]:
    """The product of x with each weight; the gradient of x is one product, and so one sum over the tensor axis."""
    return [jnp.einsum("becd,edf->becf", x_BECD, w_EDF) for w_EDF in weights_EDF]


def _kept(x_BECD: jax.Array, weights_EDF: list[jax.Array]):
    return side_by_side(x_BECD, weights_EDF), (x_BECD, weights_EDF)


def _gradients(kept, slopes_BECF: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    x_BECD, weights_EDF = kept
    of_x_BECD = jnp.einsum("becgf,edgf->becd", jnp.stack(slopes_BECF, axis=3), jnp.stack(weights_EDF, axis=2))
    return of_x_BECD, [jnp.einsum("becd,becf->edf", x_BECD, slope_BECF) for slope_BECF in slopes_BECF]


side_by_side.defvjp(_kept, _gradients)
