"""Collectives: a sum over both axes by a ring of messages and by the framework."""

from __future__ import annotations

from . import series

MESH = "data=2,tensor=2"


class AllReduce(series.Step):
    contract, mesh = "collectives/all_reduce_sum", MESH
    params = (["jax-ring", "torch-collectives"], ["float32"])


class AllReduceBytes(series.Bytes):
    contract, mesh = "collectives/all_reduce_sum", MESH
    params = series.bytes_of(["jax-ring"], MESH)
