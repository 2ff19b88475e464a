"""A case, judged before it is measured."""

from __future__ import annotations

from statistics import median

from conformance.cases import Case
from conformance.mesh import Mesh
from conformance.resolve import resolve
from conformance.results import CaseResult
from conformance.run import TIMEOUT_SECONDS, Bench, overhead
from conformance.tolerance import BOUNDS
from conformance.workers.jobs import Measured, MeasureJob
from conformance.workers.pool import Workers


class NotConforming(RuntimeError):  # noqa: N818
    """The case did not pass, so that its figures mean nothing."""


def measured(contract: str, implementation: str, mesh: str, dtype: str) -> dict[str, float]:
    """All figures of one case; raises NotConforming if its verdict is not `pass`.

    seconds_per_token   median step over valid elements of the batch
    peak_bytes          per device, from the compiled program (JAX)
    error_over_bound    the worst of all comparisons
    overhead            share of the case's time outside place, compile, step and collect
    """
    case = Case(contract=contract, implementation=implementation, mesh=Mesh.parse(mesh), dtype=dtype)
    target = resolve(case)
    with Workers(jax_devices=case.mesh.devices) as workers:
        bench = Bench(workers=workers)
        result = bench.judge_case(case, target)
        if result.verdict != "pass":
            raise NotConforming(f"{case.id} is {result.verdict}: its figures mean nothing.")
        job = MeasureJob(case=case, framework=target.framework, target=target.path)
        found = workers.run(job, TIMEOUT_SECONDS).measured
    assert found is not None
    [batch] = target.contract.batches(0, 1)
    return _figures(result, found, float(batch["mask"].sum()), dtype)


def _figures(result: CaseResult, found: Measured, tokens: float, dtype: str) -> dict[str, float]:
    figures = {
        "seconds_per_token": median(found.step_seconds) / tokens,
        "error_over_bound": max(max(check.ratios.values(), default=0.0) for check in result.checks),
        "bound": BOUNDS[dtype],
        "overhead": overhead([result]) or 0.0,
    }
    return figures | ({"peak_bytes": float(found.peak_bytes)} if found.peak_bytes is not None else {})
