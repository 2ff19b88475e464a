"""`--devices single`: the verdicts of emulated devices, faults that are caught, and what is refused with its reason."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conformance.cases.case import Case, Mutation
from conformance.contract.mesh import Mesh
from conformance.records.results import CaseResult
from conformance.runner.run import run
from conformance.workers.pool import Workers
from tests.workers.conftest import HERE, needs

EXAMPLE = HERE.parents[1] / "docs" / "examples" / "mlp_torch.py"
JAX = (
    ("tensor/mlp", "data2_tensor2", {}),
    ("tensor/mlp", "data2_tensor2", {"mutation": Mutation(operator="repeat", site=0)}),
    ("tensor/layer", "data2_tensor2", {"fault": "replicated-grad-reduced-twice"}),
    ("tensor/attention_mqa", "data2_tensor2", {"fault": "mla-shared-rope-key-grad-not-reduced"}),
)


def judged(workers: Workers, *cases: Case) -> list[CaseResult]:
    results: list[CaseResult] = []
    run(cases, workers=workers, on_result=results.append, bisect=False, as_given=True, at_once=1)
    return results


def failing(result: CaseResult) -> tuple[str, set[str]]:
    return result.verdict, {check.check for check in result.checks if check.verdict == "fail"}


@pytest.mark.parametrize(("contract", "mesh", "planted"), JAX)
def test_jax_is_judged_as_on_emulated_devices(workers: Workers, contract: str, mesh: str, planted: dict) -> None:
    needs("jax")
    emulated = Case(
        contract=contract, implementation="jax-shard_map", mesh=Mesh.from_slug(mesh), dtype="float64", **planted
    )
    single, many = judged(workers, replace(emulated, devices="single"), emulated)
    assert failing(single) == failing(many), (single.reason, many.reason)
    assert single.verdict == ("fail" if planted else "pass")


def test_what_the_partitioner_divides_is_refused(workers: Workers) -> None:
    needs("jax")
    mesh = Mesh.parse("data=2,tensor=2")
    case = Case(contract="tensor/mlp", implementation="jax-automatic", mesh=mesh, dtype="float64", devices="single")
    [result] = judged(workers, case)
    assert result.verdict == "unsupported"
    assert "nothing would be divided" in result.reason
    assert result.as_expected


def in_torch(file: Path, name: str, mesh: str = "data=2,tensor=2") -> Case:
    return Case(
        contract="tensor/mlp",
        implementation=f"{file}:{name}",
        mesh=Mesh.parse(mesh),
        dtype="float64",
        devices="single",
    )


def test_torch_in_dtensor_passes_and_a_fault_in_it_fails(workers: Workers) -> None:
    needs("torch")
    right, wrong = judged(
        workers, in_torch(EXAMPLE, "TensorParallelMLP"), in_torch(HERE / "single_programs.py", "Halved")
    )
    assert right.verdict == "pass", right.reason
    assert failing(wrong)[0] == "fail", wrong.reason
    assert "logic" in failing(wrong)[1]


def test_one_torch_process_stands_for_all_ranks(workers: Workers) -> None:
    needs("torch")
    judged(workers, in_torch(EXAMPLE, "TensorParallelMLP"))
    [fleet] = [crew for key, crew in workers._crews.items() if key.startswith("torch single")]
    assert len(fleet.members) == 1


REFUSED = {
    "AsksForItsRank": "asks for its rank by get_rank",
    "AsksForItsPlace": "asks for its rank by DeviceMesh.get_local_rank",
    "CommunicatesByHand": "communicates by all_reduce",
    "UsesFSDP2": "uses FSDP2",
}


def test_torch_programs_that_would_be_silently_wrong_are_refused(workers: Workers) -> None:
    needs("torch")
    results = judged(workers, *(in_torch(HERE / "single_programs.py", name) for name in REFUSED))
    assert [result.verdict for result in results] == ["unsupported"] * len(REFUSED), [r.reason for r in results]
    for result, sentence in zip(results, REFUSED.values(), strict=True):
        assert sentence in result.reason


def test_on_one_axis_torchs_own_dispatch_may_ask_for_the_rank_and_the_program_may_not(workers: Workers) -> None:
    needs("torch")
    right, wrong = judged(
        workers,
        in_torch(EXAMPLE, "TensorParallelMLP", "tensor=2"),
        in_torch(HERE / "single_programs.py", "AsksForItsCoordinate", "tensor=2"),
    )
    assert right.verdict == "pass", right.reason
    assert wrong.verdict == "unsupported"
    assert "asks for its rank by DeviceMesh.get_coordinate" in wrong.reason
    assert "single_programs.py" in wrong.reason
