"""The queue of a run: every case once, what shares a reference in one lane, and no lane idle while cases wait."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from conformance.cases.case import Case, Mutation
from conformance.cases.resolve import Target
from conformance.contract.mesh import Mesh
from conformance.runner.lanes import PIECE, Kept, Lane, Queue, grouped, until_done


def entry(framework: str, contract: str, mesh: str = "data=2") -> tuple[Case, Target]:
    case = Case(contract=contract, implementation="any", mesh=Mesh.parse(mesh), dtype="float64")
    nothing: Any = None
    return case, Target(contract=nothing, framework=framework, path="", fault=None)


def contracts(group: Any) -> list[str]:
    return [case.contract for case, _ in group]


def test_lanes_begin_with_a_framework_each_and_help_when_theirs_is_done() -> None:
    queue = Queue([[entry("jax", f"s/j{n}")] for n in range(3)] + [[entry("torch", "s/t0")]])
    assert queue.lanes == 4
    assert contracts(queue.take(0)) == ["s/j0"]
    assert contracts(queue.take(1)) == ["s/t0"]
    assert contracts(queue.take(1)) == ["s/j1"]
    assert contracts(queue.take(2)) == ["s/j2"]
    assert queue.take(0) == ()
    assert queue.take(1) == ()


def test_one_framework_fills_all_lanes() -> None:
    queue = Queue([[entry("torch", f"s/t{n}")] for n in range(2)])
    assert contracts(queue.take(1)) == ["s/t0"]
    assert contracts(queue.take(0)) == ["s/t1"]


def test_every_case_is_judged_once_and_a_group_by_one_lane() -> None:
    groups = [[entry("jax", f"s/c{n}", mesh) for mesh in ("data=2", "data=4")] for n in range(20)]
    queue, judged, seen = Queue(groups), [], []
    kept = Kept(seen.append)

    def lane(number: int) -> Lane:
        def judge(case: Case, target: Target) -> Any:
            judged.append((number, case))
            return case

        return Lane(queue.entries(number), judge, kept, lambda sentence: None)

    lanes = [lane(number) for number in range(3)]
    for started in lanes:
        started.start()
    until_done(lanes)
    assert sorted(case.id for case in seen) == sorted(case.id for group in groups for case, _ in group)
    lanes_of = {case.contract: {n for n, other in judged if other.contract == case.contract} for case in seen}
    assert all(len(numbers) == 1 for numbers in lanes_of.values())


def test_many_mutants_of_one_program_are_shared_out_and_seeds_of_one_program_are_not() -> None:
    plain = Case(contract="tensor/mlp", implementation="jax-shard_map", mesh=Mesh.parse("tensor=2"), dtype="float64")
    mutants = [replace(plain, mutation=Mutation(operator="drop", site=n)) for n in range(2 * PIECE + 1)]
    assert [len(group) for group in grouped(mutants, as_given=False)] == [PIECE, PIECE, 1]
    seeds = [replace(plain, seed=n) for n in range(2 * PIECE + 1)]
    assert [len(group) for group in grouped(seeds, as_given=False)] == [2 * PIECE + 1]
