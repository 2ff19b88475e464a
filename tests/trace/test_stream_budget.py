"""A stream of tokens by annotation stays within its budget, and a program that shards it in another order does not."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

from conformance.cases.suite import suites
from conformance.checks.upper_bound import Excess, excess
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements
from conformance.trace.jax_reordered import register
from conformance.workers.partitioned import partitioned, text_of
from suites.sequence.jax_automatic.transformer import LanguageModel

CUBE = "data=2,tensor=2,sequence=2"


class InMeshOrder(LanguageModel):
    """Tokens nest as the mesh does, here tensor outside of sequence: blocks are left with the tokens of all devices."""

    def sharding(self, placements: Placements) -> NamedSharding:
        return NamedSharding(self.device_mesh, self.spec(placements))


class HeadsUnsaid(LanguageModel):
    """Heads are not sharded where they are made: their rotated gradients are gathered whole."""

    def on_heads(self, x_BSHE: jax.Array) -> jax.Array:
        return x_BSHE


def _excess(program: type[LanguageModel], mesh: str, dtype: str) -> tuple[tuple[Excess, ...], tuple[str, ...]]:
    """What the program sends beyond its budget, and what the partitioner says that it gathers whole."""
    register()
    contract, sizes = suites()["sequence"].contract("sequence/context_language_model"), Mesh.parse(mesh)
    devices = np.array(jax.devices()[: sizes.devices]).reshape(sizes.shape)
    made = program(contract, sizes, dtype)
    device_mesh = jax.sharding.Mesh(devices, sizes.axes, axis_types=(AxisType.Auto,) * len(sizes.axes))
    kind = np.float64 if dtype == "float64" else np.float32
    state = made.place({name: value.astype(kind) for name, value in contract.parameters(0).items()}, device_mesh)
    lowered = jax.jit(made.step).lower(state, dict(contract.example))
    sent = partitioned(lowered, text_of(lowered), sizes)
    return excess(sent, made.budget() or (), sizes, contract.shapes), sent.rematerialized


@pytest.mark.parametrize(
    ("mesh", "dtype"), [(CUBE, "float64"), (CUBE, "bfloat16"), ("sequence=4", "float32"), ("tensor=4", "float64")]
)
def test_the_stream_stays_within_its_budget(mesh: str, dtype: str) -> None:
    assert _excess(LanguageModel, mesh, dtype) == ((), ())


def test_tokens_in_the_order_of_the_mesh_are_beyond_it() -> None:
    beyond, _ = _excess(InMeshOrder, CUBE, "float64")
    assert ("tensor", "sequence") in {each.axes for each in beyond}


def test_heads_that_are_not_sharded_where_they_are_made_are_beyond_it() -> None:
    beyond, _ = _excess(HeadsUnsaid, CUBE, "float64")
    assert beyond
