"""A declared reduction in bfloat16 is right in any order of devices: its rounding is in the yardsticks."""

from __future__ import annotations

import pytest

from conformance.cases.case import Case
from conformance.contract.mesh import Mesh
from conformance.records.results import CaseResult
from conformance.runner.run import run
from conformance.workers.pool import Workers


@pytest.fixture(scope="module")
def workers():
    with Workers(jax_devices=4) as workers:
        yield workers


@pytest.mark.parametrize("implementation", ["jax-data_parallel", "torch-data_parallel"])
def test_sums_over_four_devices_pass_whatever_is_drawn(workers: Workers, implementation: str) -> None:
    cases = [
        Case(
            contract="data/policy_bfloat16_reduction",
            implementation=implementation,
            mesh=Mesh.parse("data=2,fsdp=2"),
            dtype="float32",
            seed=seed,
        )
        for seed in range(3)
    ]
    results: list[CaseResult] = []
    run(cases, workers=workers, on_result=results.append)
    assert [result.verdict for result in results] == ["pass"] * 3, results
