"""A worker that holds more than is stated is renewed between two jobs."""

from __future__ import annotations

import psutil
import pytest

from conformance.cases.resolve import resolve
from conformance.cases.selection import parse_case
from conformance.workers.jobs import SitesJob
from conformance.workers.pool import Workers

CASES = {
    "jax_worker": "collectives/all_reduce_sum[jax-shard_map-tensor2-float64]",
    "torch_server": "collectives/all_reduce_sum[torch-collectives-tensor2-float64]",
}
IDLE = {"jax_worker": 0, "torch_server": 1}  # processes of that kind that run no case


def _pids(kind: str) -> set[int]:
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if f"conformance.workers.{kind}" in child.cmdline()}


@pytest.mark.parametrize("kind", CASES)
def test_a_worn_worker_is_renewed_and_no_other(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = parse_case(CASES[kind])
    target = resolve(case)
    job = SitesJob(case=case, framework=target.framework, target=target.path)
    others = _pids(kind)  # of other tests in this process
    with Workers(jax_devices=2) as workers:
        sites = workers.run(job, 120).sites
        before = _pids(kind) - others
        assert workers.run(job, 120).sites == sites
        assert _pids(kind) - others == before
        monkeypatch.setattr("conformance.workers.worker_group.RENEWED_BYTES", 2**20)
        assert workers.run(job, 120).sites == sites
        after = _pids(kind) - others
    assert sites
    assert len(after) == len(before)
    assert len(after & before) == IDLE[kind]
