"""The scanned program at production size: it observes the loss alone, and its arguments are shapes, never arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from suites.hybrid.jax_automatic import mixture, stacked
from suites.training.jax.state import Named

OBSERVED = ("loss", "metrics/grad_norm")


class LanguageModel(stacked.LanguageModel):
    """What is compiled for many devices: the step of `stacked.LanguageModel` with fewer observations."""

    def whole_step(self, state: dict, batch: Named) -> tuple[dict, Named]:
        state, observed = super().whole_step(state, batch)
        return state, {name: observed[name] for name in OBSERVED}

    def unstacked(self, values: Named) -> Named:
        """Nothing is taken apart: every observation of a layer is dropped."""
        return values

    @cached_property
    def program(self) -> Callable[[dict, Named], tuple[dict, Named]]:
        """The jitted step; the old state is donated to the new one."""
        shardings = jax.tree.map(lambda spec: NamedSharding(self.device_mesh, spec), self.state_specs())
        return jax.jit(self.whole_step, out_shardings=(shardings, None), donate_argnums=0)

    def abstract(self, mesh: Any) -> tuple[Callable[[dict, Named], Any], dict, dict[str, jax.ShapeDtypeStruct]]:
        """The jitted step and its arguments as shapes with shardings, on a mesh of devices that need not exist."""
        self.settle(mesh)
        specs = self.state_specs()
        parameters = {
            name: self._shape(name, self.stored_dtype, specs["parameters"][name]) for name in self.stored_names
        }
        slots = {
            slot: {name: self._shape(name, self.slot_dtype(slot), spec[name]) for name in self.stored_names}
            for slot, spec in specs["optimizer"].items()
        }
        count = jax.ShapeDtypeStruct((), "int32", sharding=NamedSharding(mesh, PartitionSpec()))
        batch = {key: self._batch(key, shape) for key, shape in self.batch_shapes.items()}
        return self.program, {"parameters": parameters, "optimizer": slots, "count": count}, batch

    def slot_dtype(self, slot: str) -> str:
        return (self.master_dtype or self.master) if slot == "master" else self.master

    def _shape(self, name: str, dtype: str, spec: PartitionSpec) -> jax.ShapeDtypeStruct:
        """Of a stored parameter, padding included."""
        shape = list(self.contract.shapes[name.replace(stacked.EVERY, "layers.0")])
        shape = [self.contract.model.layers, *shape] if stacked.EVERY in name else shape
        for dim, order in self.positions(name).items():
            shape[dim] = len(order)
        return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=NamedSharding(self.device_mesh, spec))

    def _batch(self, key: str, shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(self.device_mesh, self.spec(self.batch_placements(key)))
        return jax.ShapeDtypeStruct(shape, self.contract.example[key].dtype, sharding=sharding)


class MixtureLanguageModel(LanguageModel, mixture.LanguageModel):
    """The same of a model whose layers have mixtures."""
