"""A program that remembers other cases: its case passes alone, and fresh processes leave the warm ones as they are."""

from __future__ import annotations

from dataclasses import replace

import psutil
import pytest

from conformance.cases.case import Case
from conformance.cases.resolve import Target
from conformance.checks import CHECKS
from conformance.runner.isolation import DEPENDS
from conformance.runner.run import CaseRunner
from conformance.workers.pool import Workers
from tests.workers import tiny
from tests.workers.conftest import job

BY_VALUES = [check for check in CHECKS if check.name in ("logic", "numerics")]


def test_a_case_that_depends_on_another_is_found(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = job(framework, "Remembers").case
    target = Target(contract=tiny.CONTRACT, framework=framework, path=case.implementation)
    monkeypatch.setattr("conformance.runner.run.resolve", lambda case: target)
    narrow, wide, again = replace(case, dtype="float32"), case, replace(case, seed=1)
    with Workers() as workers:
        bench = CaseRunner(workers=workers, checks=BY_VALUES, alone=True)

        def judged(case: Case) -> tuple[str, tuple[str, ...]]:
            result = bench.judge_case(case, target)
            assert result.verdict in ("pass", "fail"), result.reason
            return result.verdict, result.after

        assert judged(narrow) == ("pass", ())
        processes = psutil.Process().children(recursive=True)
        result = bench.judge_case(wide, target)
        assert (result.verdict, result.after) == ("fail", (narrow.id,))
        assert result.checks[0].diagnosis[0].cause == DEPENDS
        assert result.reproduce == f"shardproof run --case '{narrow.id}' --case '{wide.id}'"
        assert workers.before(wide, framework) == (narrow,)
        assert set(processes) <= set(psutil.Process().children(recursive=True))
        assert judged(again) == ("fail", (narrow.id,)), "the one before it alone does not make it fail"


def test_fresh_workers_end_with_the_pool(framework: str) -> None:
    others = set(psutil.Process().children(recursive=True))
    workers = Workers()
    with workers.fresh() as fresh:
        assert fresh.run(job(framework, "Right"), 60).failure is None
        workers.close()
        assert not set(psutil.Process().children(recursive=True)) - others
        assert fresh.run(job(framework, "Right"), 60).failure is not None
