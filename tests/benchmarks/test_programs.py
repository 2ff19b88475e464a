"""Collectives made of messages beside the framework's own, sharded layers beside those of one device."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.cases.selection import parse_case
from conformance.workers.lookup import load

RING = "collectives/all_reduce_sum[jax-ring-tensor4-float32]"
NATIVE = "collectives/all_reduce_sum[jax-shard_map-tensor4-float32]"
LAYERS = {"dense": "tensor/layer[jax-shard_map-tensor4-float32]", "mixture": "moe/routed[jax-capacity-expert4-float32]"}


class Stepped:
    """A step of a case's program, or of its reference, on the same batch again and again; compiled before."""

    def __init__(self, case_id: str, *, is_reference: bool = False) -> None:
        import jax
        import numpy as np

        from conformance.cases.resolve import resolve

        case = parse_case(case_id)
        target, mesh = resolve(case), case.mesh
        devices = np.array(jax.devices()[: mesh.devices]).reshape(mesh.shape)
        parameters = target.contract.parameters(0)
        if is_reference:
            self.made: Any = load(target.contract.references["jax"])(target.contract, case.dtype)
            self.state = self.made.place(parameters)
        else:
            self.made = load(target.path)(target.contract, mesh, case.dtype)
            self.state = self.made.place(parameters, jax.sharding.Mesh(devices, mesh.axes))
        [self.batch] = target.contract.batches(0, 1)
        self.wait = jax.block_until_ready
        self()

    def __call__(self) -> None:
        self.state, seen = self.made.step(self.state, self.batch)
        self.wait((self.state, dict(seen)))


def test_a_sum_by_a_ring_beside_the_frameworks_own(beside) -> None:
    beside(Stepped(RING), Stepped(NATIVE))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_sharded_layer_beside_that_of_one_device(beside, layer: str) -> None:
    beside(Stepped(LAYERS[layer]), Stepped(LAYERS[layer], is_reference=True))
