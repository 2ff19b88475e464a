"""Warm workers for all tests of this folder, and jobs on its tiny contract."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from conformance.cases.case import Case
from conformance.contract.mesh import Mesh
from conformance.workers.jobs import CaseJob
from conformance.workers.pool import Workers

HERE = Path(__file__).resolve().parent


def job(framework: str, program: str, mesh: str = "tensor=2", dtype: str = "float64", **asked: object) -> CaseJob:
    """A case of the tiny contract run by one of the programs of this folder, without extras unless asked for."""
    where = f"{HERE / f'{framework}_programs.py'}:{program}"
    case = Case(contract=f"{HERE / 'tiny.py'}:CONTRACT", implementation=where, mesh=Mesh.parse(mesh), dtype=dtype)
    extras = {"determinism": False, "input_sensitivity": False, "trace": False, **asked}
    return CaseJob(case=case, framework=framework, target=where, **extras)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def workers() -> Iterator[Workers]:
    with Workers(memory_bytes=1200 * 2**20) as warm:
        yield warm


@pytest.fixture(params=["jax", "torch"])
def framework(request: pytest.FixtureRequest) -> str:
    needs(request.param)
    return request.param


def needs(*frameworks: str) -> None:
    """Skip where one is not installed; looked up and not imported, since the main process imports neither."""
    for framework in frameworks:
        if find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed")
