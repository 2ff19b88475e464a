"""Judges a case before it is measured, and makes benchmark series of its figures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product
from statistics import median
from typing import ClassVar

from conformance.cases.case import DTYPES, Case
from conformance.cases.resolve import resolve
from conformance.cases.usage import choose
from conformance.contract.mesh import Mesh
from conformance.evidence.tolerance import BOUNDS
from conformance.records.results import CaseResult, overhead
from conformance.runner.run import TIMEOUT_SECONDS, CaseRunner
from conformance.workers.jobs import Measured, MeasureJob
from conformance.workers.pool import Workers

VERSION = "1"
NOT_KNOWN = float("nan")


class NotConforming(RuntimeError):  # noqa: N818
    """The case did not pass, so that its figures mean nothing."""


def measured(contract: str, implementation: str, mesh: str, dtype: str) -> dict[str, float]:
    """All figures of one case; raises NotConforming if its verdict is not `pass`.

    seconds_per_token   median step over valid elements of the batch
    peak_bytes          per device, from the compiled program (JAX)
    error_over_bound    the worst of all comparisons
    overhead            share of the case's time outside place, compile, step and collect
    """
    case = Case(
        contract=contract, implementation=implementation, mesh=Mesh.parse(mesh), dtype=choose("dtype", dtype, DTYPES)
    )
    target = resolve(case)
    with Workers(jax_devices=case.mesh.devices) as workers:
        bench = CaseRunner(workers=workers)
        result = bench.judge_case(case, target)
        if result.verdict != "pass":
            raise NotConforming(f"{case.id} is {result.verdict}: its figures mean nothing.")
        job = MeasureJob(case=case, framework=target.framework, target=target.path)
        measurement = workers.run(job, TIMEOUT_SECONDS).measured
    assert measurement is not None
    [batch] = target.contract.batches(0, 1)
    return _figures(result, measurement, float(batch["mask"].sum()), dtype)


def _figures(result: CaseResult, measurement: Measured, tokens: float, dtype: str) -> dict[str, float]:
    figures = {
        "seconds_per_token": median(measurement.step_seconds) / tokens,
        "error_over_bound": max(max(check.ratios.values(), default=0.0) for check in result.checks),
        "bound": BOUNDS[dtype],
        "overhead": overhead([result]) or 0.0,
    }
    return figures | ({"peak_bytes": float(measurement.peak_bytes)} if measurement.peak_bytes is not None else {})


class Series(ABC):
    """An asv benchmark: one judged and measured run per implementation and dtype, shared by its series."""

    contract: ClassVar[str]
    mesh: ClassVar[str]
    params: ClassVar[tuple[list[str], list[str]]]
    param_names = ("implementation", "dtype")
    timeout = 900

    @abstractmethod
    def setup_cache(self) -> dict:
        """`self.measured()`: asv knows a cache by its place in the source, so that each series has its own."""

    def measured(self) -> dict:
        return {pair: measured(self.contract, pair[0], self.mesh, pair[1]) for pair in product(*self.params)}

    def setup(self, measurements: dict, implementation: str, dtype: str) -> None:
        self.figures = measurements[implementation, dtype]

    def track_seconds_per_token(self, measurements: dict, implementation: str, dtype: str) -> float:
        return self.figures["seconds_per_token"]

    def track_peak_bytes(self, measurements: dict, implementation: str, dtype: str) -> float:
        """Not a number for torch: nothing is compiled there."""
        return self.figures.get("peak_bytes", NOT_KNOWN)

    def track_error_over_bound(self, measurements: dict, implementation: str, dtype: str) -> float:
        return self.figures["error_over_bound"]

    def track_overhead(self, measurements: dict, implementation: str, dtype: str) -> float:
        return self.figures["overhead"]


_UNITS = {
    "seconds_per_token": "seconds/token",
    "peak_bytes": "bytes",
    "error_over_bound": "error/bound",
    "overhead": "share",
}
for _name, _unit in _UNITS.items():
    getattr(Series, f"track_{_name}").unit = _unit
    getattr(Series, f"track_{_name}").version = VERSION
