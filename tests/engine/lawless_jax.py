"""JAX faults for the tests of the laws: each is a mixin that is put in front of `lawful_jax.Lawful`.

B: rows  S: tokens of a row  I, O: input and output features
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from conformance.contract.implementation import Unsupported
from reference.jax.dropout import keep_mask


class RowsByDeviceNumber:
    """Rows are handed out by the number of a device, not by its place in the mesh."""

    def given(self, value: np.ndarray) -> np.ndarray:
        return np.roll(value, self.jax_mesh.devices.flat[0].id, axis=0)  # type: ignore[attr-defined]


class LastRowLost:
    def given(self, value: np.ndarray) -> np.ndarray:
        return np.concatenate([value[:-1], value[-2:-1]])


class SeesLater:
    def mixed(self, x_BSI: Any) -> Any:
        return jnp.cumsum(x_BSI, axis=1) + 1e-15 * jnp.sum(x_BSI, axis=1, keepdims=True)


class SeesOnlyTheFirst:
    def mixed(self, x_BSI: Any) -> Any:
        return jnp.broadcast_to(x_BSI[:, :1], x_BSI.shape)


class NothingByNothing:
    def weight(self, tokens: Any) -> Any:
        return tokens


class PenaltyAlways:
    def of_slice(self, parameters: dict, batch: dict) -> Any:
        gradients, loss, tokens, rows = super().of_slice(parameters, batch)  # type: ignore[misc]
        return {name: g + 1e-9 * parameters[name] for name, g in gradients.items()}, loss, tokens, rows


class OtherMaskAgain:
    """What is computed again draws again."""

    def keep(self, seeds_B: Any, length: int, features: int) -> Any:
        again = self.contract.recipe.recompute == "layer"  # type: ignore[attr-defined]
        return super().keep(seeds_B + again, length, features)  # type: ignore[misc]


class MeanOfMeans:
    def of_slice(self, parameters: dict, batch: dict) -> Any:
        gradients, loss, tokens, rows = super().of_slice(parameters, batch)  # type: ignore[misc]
        return {name: g / tokens * 40 for name, g in gradients.items()}, loss, tokens, rows


class MomentumForgotten:
    def contents(self, state: dict) -> dict:
        contents = super().contents(state)  # type: ignore[misc]
        return {name: np.zeros_like(value) if "momentum" in name else value for name, value in contents.items()}


class SavedInFloat32:
    def contents(self, state: dict) -> dict:
        return jax.tree.map(lambda x: np.asarray(x).astype(np.float32).astype(x.dtype), super().contents(state))  # type: ignore[misc]


class OwnMeshOnly:
    def load(self, folder: Path, mesh: Any) -> Any:
        if self.mesh.size("data") != 2 or self.mesh.order != "canonical":  # type: ignore[attr-defined]
            raise Unsupported("A checkpoint is loaded on the mesh that it was saved from.")
        return super().load(folder, mesh)  # type: ignore[misc]


class ColumnsByRank:
    """Blocks come back in the order of the ranks that read them."""

    def read(self, path: Path, digest: str) -> np.ndarray:
        value = super().read(path, digest)  # type: ignore[misc]
        return np.roll(value, self.mesh.size("tensor") - 2, axis=-1) if value.ndim else value  # type: ignore[attr-defined]


class NoDigests:
    def read(self, path: Path, digest: str) -> np.ndarray:
        return np.load(path)


class ZerosForMissing:
    def read(self, path: Path, digest: str) -> np.ndarray:
        return super().read(path, digest) if path.exists() else np.zeros(self.contract.shapes[path.name.split(".")[-2]])  # type: ignore[misc,attr-defined]


class RefusesAll:
    def load(self, folder: Path, mesh: Any) -> Any:
        raise ValueError("This checkpoint is damaged.")


class KeyPerShape:
    """Parameters of a mesh of its own."""

    def drawn(self, seed: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
        return super().drawn(seed + self.mesh.size("tensor"), number, shape)  # type: ignore[misc,attr-defined]


class SameKeyOnShards:
    def drawn(self, seed: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
        block = super().drawn(seed, number, (*shape[:-1], shape[-1] // 2))  # type: ignore[misc]
        return np.concatenate([block, block], axis=-1)


class SeedIgnored:
    def drawn(self, seed: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
        return super().drawn(0, number, shape)  # type: ignore[misc]


class TwiceAsLarge:
    def drawn(self, seed: int, number: int, shape: tuple[int, ...]) -> np.ndarray:
        return 2 * super().drawn(seed, number, shape)  # type: ignore[misc]


class DrawnAfterTheSplit:
    """Every shard of the features draws the same mask."""

    def own_features(self, x_BSO: Any) -> Any:
        return x_BSO[:, :, : x_BSO.shape[2] // self.mesh.size("tensor")]  # type: ignore[attr-defined]


class SameMaskForAllRows:
    def keep(self, seeds_B: Any, length: int, features: int) -> Any:
        return super().keep(jnp.broadcast_to(seeds_B[:1], seeds_B.shape), length, features)  # type: ignore[misc]


class SameMaskForAllSteps:
    def keep(self, seeds_B: Any, length: int, features: int) -> Any:
        return super().keep(jnp.arange(len(seeds_B)), length, features)  # type: ignore[misc]


class HalfTheRate:
    def keep(self, seeds_B: Any, length: int, features: int) -> Any:
        return keep_mask(seeds_B, "layer", (length, features), 0.125)


class SizeOfTheLast:
    """How many features there are is kept where every model of the process finds it."""

    size = [0]  # noqa: RUF012 - the state that must not be there

    def place(self, parameters: dict, mesh: Any) -> Any:
        self.size[0] = self.contract.shapes["b"][0]  # type: ignore[attr-defined]
        return super().place(parameters, mesh)  # type: ignore[misc]

    def mixed(self, x: Any) -> Any:
        return super().mixed(x) * self.size[0] / self.contract.shapes["b"][0]  # type: ignore[misc,attr-defined]


class SizeOfTheFirst(SizeOfTheLast):
    size = [0]  # noqa: RUF012 - its own

    def place(self, parameters: dict, mesh: Any) -> Any:
        first = self.size[0] or self.contract.shapes["b"][0]  # type: ignore[attr-defined]
        state = super().place(parameters, mesh)
        self.size[0] = first
        return state
