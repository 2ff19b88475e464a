"""JAX programs for the tests of the laws: one that keeps them all, and faults that break one each.

B: rows  S: tokens of a row  I, O: input and output features
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from conformance.contract.implementation import Implementation, Unsupported
from reference.jax.dropout import keep_mask

PARAMETERS = {"w": P(None, "tensor"), "b": P("tensor")}
STATE = {"parameters": PARAMETERS, "momentum": PARAMETERS, "count": P()}
BATCH = {"inputs": P("data"), "mask": P("data"), "seeds": P("data")}
ROWS = P("data", None, "tensor")


class Reference:
    def __init__(self, contract: Any, dtype: str) -> None:
        self.contract, self.dtype = contract, dtype
        self.program = jax.jit(jax.value_and_grad(self.loss, has_aux=True))

    def place(self, parameters: dict) -> Any:
        start = {name: jnp.asarray(value, self.dtype) for name, value in parameters.items()}
        return {"parameters": start, "momentum": jax.tree.map(jnp.zeros_like, start), "count": 0}

    def loss(self, p: dict, batch: dict) -> Any:
        rate = self.contract.model.dropout
        y_BSO = jnp.cumsum(batch["inputs"], axis=1) @ p["w"] + p["b"]
        keep_BSO = keep_mask(batch["seeds"], "layer", y_BSO.shape[1:], rate)
        y_BSO = jnp.where(keep_BSO, y_BSO / (1 - rate), 0)
        total = 0.5 * jnp.sum(batch["mask"][:, :, None] * y_BSO**2) / jnp.sum(batch["mask"])
        return total, {"outputs/y": y_BSO, "masks/layer": keep_BSO.astype(y_BSO.dtype)}

    def step(self, state: Any, batch: dict) -> Any:
        batch = {key: value if key == "seeds" else value.astype(self.dtype) for key, value in batch.items()}
        (loss, seen), gradients = self.program(state["parameters"], batch)
        state = updated(state, gradients)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradients.values()))
        seen |= {"loss": loss, "metrics/grad_norm": norm, "metrics/tokens": batch["mask"].sum()}
        return state, seen | {f"gradients/{name}": g for name, g in gradients.items()}

    def collect(self, state: Any) -> Any:
        return named(state)


def updated(state: dict, gradients: dict) -> dict:
    momentum = {name: 0.5 * state["momentum"][name] + g for name, g in gradients.items()}
    moved = {name: value - 0.125 * momentum[name] for name, value in state["parameters"].items()}
    return {"parameters": moved, "momentum": momentum, "count": state["count"] + 1}


def named(state: dict) -> dict:
    named = {f"parameters/{name}": value for name, value in state["parameters"].items()}
    named |= {f"optimizer/momentum/{name}": value for name, value in state["momentum"].items()}
    return named | {"optimizer/count": state["count"]}


class Lawful(Implementation):
    """Rows over `data`, output features over `tensor`; every axis that the mesh has besides is left alone."""

    framework = "jax"

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.use(mesh)
        start = {name: value.astype(self.dtype) for name, value in parameters.items()}
        zeros = {name: np.zeros_like(value) for name, value in start.items()}
        return self.laid_out({"parameters": start, "momentum": zeros, "count": np.int32(0)})

    def use(self, mesh: Any) -> None:
        self.jax_mesh = mesh
        seen = {"outputs/y": ROWS, "masks/layer": ROWS, "loss": P(), "metrics/grad_norm": P(), "metrics/tokens": P()}
        seen |= {f"gradients/{name}": spec for name, spec in PARAMETERS.items()}
        self.program = jax.jit(
            jax.shard_map(
                self.on_each,
                mesh=mesh,
                in_specs=(self.spec(STATE), self.spec(BATCH)),
                out_specs=(self.spec(STATE), self.spec(seen)),
                check_vma=False,
            )
        )

    def spec(self, tree: Any) -> Any:
        """Without the axes that this mesh lacks."""
        keep = self.mesh.axes
        return jax.tree.map(
            lambda spec: P(*(axis if axis in keep else None for axis in spec)), tree, is_leaf=lambda x: isinstance(x, P)
        )

    def laid_out(self, state: dict) -> dict:
        return jax.tree.map(lambda x, spec: jax.device_put(x, NamedSharding(self.jax_mesh, spec)), state,
                            self.spec(STATE))  # fmt: skip

    def step(self, state: Any, batch: dict) -> Any:
        return self.program(state, {key: self.given(value) for key, value in batch.items()})

    def given(self, value: np.ndarray) -> np.ndarray:
        return value

    def collect(self, state: Any) -> Any:
        return named(state)

    def on_each(self, state: dict, batch: dict) -> Any:
        number = self.contract.recipe.accumulation
        parts = [self.of_slice(state["parameters"], jax.tree.map(lambda x, i=i: jnp.split(x, number)[i], batch))
                 for i in range(number)]  # fmt: skip
        gradients = {name: self.over("data", sum(part[0][name] for part in parts)) for name in PARAMETERS}
        tokens, loss = (self.over("data", sum(part[i] for part in parts)) for i in (2, 1))
        weight = self.weight(tokens)
        gradients = {name: g / weight for name, g in gradients.items()}
        norm = jnp.sqrt(self.over("tensor", sum(jnp.sum(g**2) for g in gradients.values())))
        seen = {name: jnp.concatenate([part[3][name] for part in parts]) for name in parts[0][3]}
        seen |= {"loss": self.over("tensor", loss) / weight, "metrics/grad_norm": norm, "metrics/tokens": tokens}
        return updated(state, gradients), seen | {f"gradients/{name}": g for name, g in gradients.items()}

    def of_slice(self, parameters: dict, batch: dict) -> Any:
        """(gradients, loss, tokens, rows), all of them sums over the rows and features at hand."""
        model = jax.checkpoint(self.forward) if self.contract.recipe.recompute == "layer" else self.forward

        def loss_sum(p: dict) -> Any:
            y_BSO, mask_BSO = model(p, batch)
            return 0.5 * jnp.sum(batch["mask"][:, :, None] * y_BSO**2), {"outputs/y": y_BSO, "masks/layer": mask_BSO}

        (loss, rows), gradients = jax.value_and_grad(loss_sum, has_aux=True)(parameters)
        return gradients, loss, batch["mask"].sum(), rows

    def forward(self, p: dict, batch: dict) -> Any:
        y_BSO = self.mixed(batch["inputs"]) @ p["w"] + p["b"]
        keep_BSO = self.own_features(self.keep(batch["seeds"], y_BSO.shape[1], self.contract.shapes["b"][0]))
        rate = self.contract.model.dropout
        return jnp.where(keep_BSO, y_BSO / (1 - rate), 0), keep_BSO.astype(y_BSO.dtype)

    def mixed(self, x_BSI: Any) -> Any:
        return jnp.cumsum(x_BSI, axis=1)

    def keep(self, seeds_B: Any, length: int, features: int) -> Any:
        return keep_mask(seeds_B, "layer", (length, features), self.contract.model.dropout)

    def own_features(self, x_BSO: Any) -> Any:
        size = self.mesh.size("tensor")
        index = lax.axis_index("tensor") if "tensor" in self.mesh.axes else 0
        return lax.dynamic_slice_in_dim(x_BSO, index * (x_BSO.shape[2] // size), x_BSO.shape[2] // size, axis=2)

    def over(self, axis: str, x: Any) -> Any:
        return lax.psum(x, axis) if axis in self.mesh.axes else x

    def weight(self, tokens: Any) -> Any:
        return jnp.where(tokens == 0, 1, tokens)

    # What the laws ask for besides.

    def initialize(self, seed: int, mesh: Any) -> Any:
        self.use(mesh)
        start = {name: self.drawn(seed, number, self.contract.shapes[name]) for number, name in enumerate(PARAMETERS)}
        zeros = {name: np.zeros_like(value) for name, value in start.items()}
        return self.laid_out({"parameters": start, "momentum": zeros, "count": np.int32(0)})

    def drawn(self, seed: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
        key = jax.random.fold_in(jax.random.key(seed), number)
        return np.asarray(jax.random.normal(key, shape, self.dtype))

    def save(self, state: Any, folder: Path) -> None:
        """A file for each tensor, and last a list of their digests."""
        digests = {}
        for name, value in self.contents(state).items():
            file = f"{name.replace('/', '.')}.npy"
            np.save(folder / file, np.asarray(value))
            digests[name] = [file, hashlib.sha256((folder / file).read_bytes()).hexdigest()]
        (folder / "index.json").write_text(json.dumps(digests))

    def contents(self, state: Any) -> dict:
        return named(state)

    def load(self, folder: Path, mesh: Any) -> Any:
        self.use(mesh)
        index = json.loads((folder / "index.json").read_text())
        held = {name: self.read(folder / file, digest) for name, (file, digest) in index.items()}
        held |= {name: value for name, value in self.missing().items() if name not in held}
        return self.laid_out(
            {
                "parameters": {name: held[f"parameters/{name}"] for name in PARAMETERS},
                "momentum": {name: held[f"optimizer/momentum/{name}"] for name in PARAMETERS},
                "count": held["optimizer/count"],
            }
        )

    def read(self, path: Path, digest: str) -> np.ndarray:
        if hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise ValueError(f"{path.name} is damaged.")
        return np.load(path)

    def missing(self) -> dict:
        """Values of what a checkpoint lacks."""
        return {}


class SavesNothing(Lawful):
    """Keeps every law but those of checkpoints and initial values, which it declines."""

    def save(self, state: Any, folder: Path) -> None:
        raise Unsupported("This program writes no checkpoints.")

    def initialize(self, seed: int, mesh: Any) -> Any:
        raise Unsupported("This program draws no parameters.")
