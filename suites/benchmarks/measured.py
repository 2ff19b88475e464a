"""Judges a case, then measures its step, and that of the same program on one device."""

from __future__ import annotations

import math
from dataclasses import replace

from conformance.cases.case import DTYPES, Case
from conformance.cases.resolve import Target, resolve
from conformance.cases.usage import choose
from conformance.checks import CHECKS
from conformance.contract.mesh import Mesh
from conformance.contract.timeline import Timeline
from conformance.records.results import CaseResult, overhead
from conformance.runner.run import TIMEOUT_SECONDS, CaseRunner
from conformance.traffic.wire import wire_bytes
from conformance.workers.jobs import Profiled, ProfileJob
from conformance.workers.pool import Workers

from .kept import Figures, NotMeasured
from .series import MEMORY, NOT_KNOWN, SEVERAL

REPEATS = 20


def figures(contract: str, implementation: str, mesh: str, dtype: str, devices: str) -> Figures:
    """All figures of one case; NotMeasured if its verdict is not `pass`.

    seconds_per_token  median step over valid elements of the batch
    lost_efficiency    1 - time on one device over time on the mesh; on real devices, over their number as well
    error_over_bound   the worst of all comparisons
    overhead           share of the case's time outside place, compile, step and collect
    bubble             idle share of its schedule, where there is one
    program/...        bytes that the busiest device holds of the state and sends, by axis
    """
    case = Case(
        contract=contract, implementation=implementation, mesh=Mesh.parse(mesh), dtype=choose("dtype", dtype, DTYPES),
        devices=devices,
    )  # fmt: skip
    target = resolve(case)
    with Workers(jax_devices=case.mesh.devices) as workers:
        result = _passed(CaseRunner(workers=workers), case, target)
        seen = _profiled(workers, case, target)
        alone = _alone(workers, case, target)
    [batch] = target.contract.batches(0, 1)
    tokens = float(batch["mask"].sum()) if "mask" in batch else float(max(map(len, batch.values())))
    ideal = case.mesh.devices if devices == "real" else 1  # emulated devices share the cores of one machine
    made = {
        "seconds_per_token": seen.seconds["step"] / tokens,
        "lost_efficiency": 1 - alone / (seen.seconds["step"] * ideal),
        "error_over_bound": max(max(check.ratios.values(), default=0.0) for check in result.checks),
        "overhead": overhead([result]) or 0.0,
    }
    bubble = {} if result.timeline is None else {"bubble": idle(result.timeline)}
    return made | bubble | _sent(seen, case.mesh)


def _passed(runner: CaseRunner, case: Case, target: Target) -> CaseResult:
    result = runner.judge_case(case, target)
    if result.verdict != "pass":
        raise NotMeasured(f"{case.id} is {result.verdict}: its figures mean nothing. {result.reason}")
    return result


def _profiled(workers: Workers, case: Case, target: Target) -> Profiled:
    job = ProfileJob(case=case, framework=target.framework, target=target.path, repeats=REPEATS)
    outcome = workers.run(job, TIMEOUT_SECONDS)
    if outcome.profiled is None:
        raise NotMeasured(f"{case.id} was not measured: {outcome.reason}")
    return outcome.profiled


def _alone(workers: Workers, case: Case, target: Target) -> float:
    """Seconds of a step where every axis has size 1; judged by its first step before."""
    undivided = replace(case, mesh=Mesh(sizes=tuple((axis, 1) for axis in case.mesh.axes)))
    checks = [check for check in CHECKS if not check.needs]
    runner = CaseRunner(workers=workers, checks=checks, bisect=False)
    result = runner.judge_case(undivided, target)
    if result.verdict == "unsupported":
        return NOT_KNOWN
    _passed(runner, undivided, target)
    return _profiled(workers, undivided, target).seconds["step"]


def idle(timeline: Timeline) -> float:
    """1 - work over the time of all lanes, from the first bar to the last."""
    bars = [bar for lane in timeline.lanes for bar in lane.bars]
    span = max(bar.end for bar in bars) - min(bar.start for bar in bars)
    return 1 - sum(bar.end - bar.start for bar in bars) / (span * len(timeline.lanes))


def _sent(seen: Profiled, mesh: Mesh) -> Figures:
    held = {f"program/{MEMORY}": float(max(seen.held_bytes.values()))}
    if seen.traffic is None:  # the partitioner decides
        return held | {"sent_bytes": NOT_KNOWN}
    made = {f"program/{axis}": 0.0 for axis in (*mesh.axes, SEVERAL)}
    for each in seen.traffic:
        if each.axes:
            size = math.prod(mesh.size(axis) for axis in each.axes)
            made[f"program/{named(each.axes)}"] += wire_bytes(each.kind, each.bytes, size)
    return made | held | {"sent_bytes": sum(made.values())}


def named(axes: tuple[str, ...]) -> str:
    return axes[0] if len(axes) == 1 else SEVERAL
