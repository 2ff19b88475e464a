"""The pool: warm workers that outlive threads, reuse programs, find things by name, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from conformance.cases.case import Mutation
from conformance.trace.site import Site
from conformance.workers.jobs import Outcome, ReferenceJob, SitesJob
from conformance.workers.outcome import alike
from conformance.workers.pool import Workers
from tests.workers.conftest import HERE, job, needs

FULL = {"determinism": True, "input_sensitivity": True, "trace": True}


def evidence(outcome: Outcome):
    assert outcome.evidence is not None, outcome.reason + outcome.stack + outcome.output
    return outcome.evidence


def test_extras(workers: Workers, framework: str) -> None:
    extras = evidence(workers.run(job(framework, "Right", **FULL), 120))
    assert dict(extras.input_sensitivity) == {"x": True, "mask": True, "unused": False}
    assert extras.repeated is not None
    assert {"loss", "gradients/w", "parameters/w"} <= set(extras.repeated)
    assert extras.devices == (0, 1)
    [total] = extras.traffic or ()
    assert (total.kind, total.axes, total.calls, total.bytes) == ("all_reduce", ("tensor",), 2, 8 + 6 * 5 * 8)
    assert extras.flops is not None
    assert set(extras.flops) == {0, 1}
    assert {"place", "step", "collect", "trace"} <= set(extras.seconds)


def test_alterations_are_listed_and_made_by_the_implementation(workers: Workers, framework: str) -> None:
    right = job(framework, "Alters")
    outcome = workers.run(SitesJob(case=right.case, framework=framework, target=right.target), 120)
    [alteration] = outcome.alterations
    mutation = Mutation(operator=alteration.operator, site=alteration.site)
    altered = replace(right, case=replace(right.case, mutation=mutation))
    losses = [evidence(workers.run(each, 120)).steps[0]["loss"].blocks[0].value for each in (right, altered, right)]
    assert losses[1] == 2 * losses[0]
    assert losses[2] == losses[0]


def test_what_lies_in_a_longer_vector_is_read_where_it_is_held(workers: Workers) -> None:
    needs("jax")
    second = evidence(workers.run(job("jax", "Packs"), 120)).steps[0]["outputs/second"]
    [block] = second.blocks
    assert (block.ranks, second.shape, dict(second.stored_bytes)) == ((1,), (2, 2), {1: 32})
    assert block.value.tolist() == [[7, 8], [9, 10]]
    wrong = workers.run(job("jax", "PacksTooLittle"), 120)
    assert (wrong.failure, "rank 1 has 3 elements of it" in wrong.reason) == ("error", True)


def test_another_seed_reuses_the_program(workers: Workers, framework: str) -> None:
    right = job(framework, "Right")
    first = evidence(workers.run(right, 120))
    other = evidence(workers.run(replace(right, case=replace(right.case, seed=1)), 120))
    assert "compile" not in other.seconds
    assert first.steps[0]["loss"].blocks[0].value != other.steps[0]["loss"].blocks[0].value


def test_fault_is_planted_in_front(workers: Workers, framework: str) -> None:
    right = job(framework, "Right")
    fault = replace(right, fault=f"{HERE / f'{framework}_programs.py'}:Doubled")
    once, twice = (evidence(workers.run(asked, 120)).steps[0]["loss"].blocks[0].value for asked in (right, fault))
    assert twice == 2 * once


def test_sites_and_mutations(workers: Workers, framework: str) -> None:
    right = job(framework, "Right")
    sites = workers.run(SitesJob(case=right.case, framework=framework, target=right.target), 120).sites
    assert [(site.kind, site.axes) for site in sites] == [("all_reduce", ("tensor",))] * 2
    assert "repeat" in sites[0].operators

    def mutated(operator: str, site: int) -> Outcome:
        mutation = Mutation(operator=operator, site=site)
        return workers.run(replace(right, case=replace(right.case, mutation=mutation)), 120)

    once = evidence(workers.run(right, 120)).steps[0]["loss"].blocks[0].value
    assert evidence(mutated("repeat", 0)).steps[0]["loss"].blocks[0].value == 2 * once
    missing = mutated("repeat", 7)
    assert missing.failure == "error", "a mutation that changes nothing must not pass for a survivor"
    assert "MutationError" in missing.stack


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_truth(workers: Workers, framework: str, dtype: str) -> None:
    reference = workers.run(
        ReferenceJob(contract=f"{HERE / 'tiny.py'}:CONTRACT", framework=framework, dtype=dtype, seed=0), 120
    )
    assert reference.reference is not None, reference.reason + reference.stack
    oracle, noise = reference.reference.oracle, reference.reference.noise
    assert list(oracle[0]) == ["loss", "gradients/w", "updates/w"]
    assert np.array_equal(oracle[0]["updates/w"], -oracle[0]["gradients/w"])
    epsilon = {"float64": 2.0**-52, "float32": 2.0**-23}[dtype]
    assert 0 < noise[0]["gradients/w"].max() < 64 * epsilon * np.abs(oracle[0]["gradients/w"]).max()
    assert reference.reference.flops == 2 * (2 * 8 * 6 * 5), "x @ w and x.T @ dy"


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("no_such_module:Class", "'no_such_module' does not import: ModuleNotFoundError"),
        ("conformance.contract.mesh:Nothing", "'conformance.contract.mesh' has no 'Nothing'"),
        ("conformance.contract.mesh:Mesh", "lacks place"),
    ],
)
def test_bad_target_is_a_sentence(workers: Workers, framework: str, target: str, sentence: str) -> None:
    outcome = workers.run(replace(job(framework, "Right"), target=target), 120)
    assert outcome.failure == "error"
    assert sentence in outcome.reason


def test_workers_outlive_the_thread_that_started_them(framework: str) -> None:
    """A run starts its workers from a thread of its own; the next run, from another thread, finds them warm."""
    outcomes: list[Outcome] = []
    with Workers() as workers:
        for _ in range(2):
            thread = threading.Thread(target=lambda: outcomes.append(workers.run(job(framework, "Right"), 60)))
            thread.start()
            thread.join()
            time.sleep(1)
    assert [outcome.failure for outcome in outcomes] == [None, None], outcomes[-1].reason
    assert "compile" not in outcomes[1].phases, "the first worker is still there"


KILLED = """
import sys, threading
sys.path.insert(0, {root!r})
from conformance.workers.pool import Workers
from tests.workers.conftest import job
with Workers() as workers:
    assert workers.run(job({framework!r}, "Right"), 60).failure is None
    print("busy", flush=True)
    workers.run(job({framework!r}, "Deadlocks"), 600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_children_end_with_their_parent(framework: str, how: signal.Signals) -> None:
    """Also in the middle of a case that hangs."""
    code = KILLED.format(root=str(HERE.parent.parent), framework=framework)
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == "busy\n"
    time.sleep(0.5)
    children = psutil.Process(parent.pid).children(recursive=True)
    assert children
    os.kill(parent.pid, how)
    parent.wait(20)
    _, alive = psutil.wait_procs(children, timeout=10)
    for child in alive:
        child.kill()
    assert not alive


def test_processes_of_a_candidate_end_with_the_workers(framework: str, tmp_path: Path, monkeypatch) -> None:
    """A loader's, say: also those that have left their process group."""
    file = tmp_path / "pids"
    monkeypatch.setenv("LEFT_PROCESSES", str(file))
    with Workers() as workers:
        assert workers.run(job(framework, "LeavesProcesses"), 120).failure is None
        pids = [int(line) for line in file.read_text().splitlines()]
        assert len(pids) >= 2
        assert all(psutil.pid_exists(pid) for pid in pids)
    left = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs([process for process in left if process.status() != psutil.STATUS_ZOMBIE], timeout=10)
    for process in alive:
        process.kill()
    assert not alive


def test_nothing_runs_after_close(framework: str) -> None:
    workers = Workers()
    workers.close()
    outcome = workers.run(job(framework, "Right"), 30)
    assert outcome.failure is not None


def test_a_site_has_the_same_number_on_all_ranks() -> None:
    """Ranks that send to each other have programs of their own: what only some do at a number is no site."""

    def site(number: int, kind: str, shape: tuple[int, ...]) -> Site:
        return Site(number=number, kind=kind, axes=("data",), phase="update", shape=shape, operators=("drop",))

    ranks_first = (site(0, "all_reduce", (2,)), site(1, "permute", (3,)), site(2, "all_reduce", (4,)))
    other = (site(0, "all_reduce", (5,)), site(1, "all_reduce", (3,)))
    assert alike([ranks_first, other]) == ranks_first[:1]
    assert alike([ranks_first, ranks_first]) == ranks_first
