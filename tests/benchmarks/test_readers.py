"""Readers of programs beside plain ways through the same program."""

from __future__ import annotations

import re

import pytest

from conformance.cases.resolve import resolve
from conformance.cases.selection import parse_case
from conformance.contract.mesh import Mesh
from conformance.traffic.hlo_module import read_module
from conformance.traffic.hlo_reader import collectives
from conformance.workers.lookup import load

CASE = "tensor/layer[jax-shard_map-tensor4-float32]"
WORD = re.compile(r"[\w.%-]+")


@pytest.fixture(scope="module")
def lowered():
    import jax
    import numpy as np

    case = parse_case(CASE)
    target = resolve(case)
    made = load(target.path)(target.contract, case.mesh, case.dtype)
    devices = jax.sharding.Mesh(np.array(jax.devices()[:4]), case.mesh.axes)
    state = made.place(target.contract.parameters(0), devices)
    [batch] = target.contract.batches(0, 1)
    return made.program, state, batch


def test_collectives_of_a_compiled_program_beside_its_words(beside, lowered) -> None:
    from conformance.targets.compiled import compile_step

    program, state, batch = lowered
    text = compile_step(program.lower(state, batch)).partitioned

    def read() -> None:
        assert len(list(collectives(read_module(text), 4, "partitioned"))) > 2

    beside(read, lambda: WORD.findall(text))


def test_traffic_of_a_traced_program_beside_its_printing(beside, lowered) -> None:
    import jax

    from conformance.trace.jax_trace import Program

    program, state, batch = lowered

    def read() -> None:
        assert Program(program, state, batch, Mesh.parse("tensor=4")).traffic()

    jaxpr = jax.make_jaxpr(program)(state, batch)
    beside(read, lambda: str(jaxpr))
