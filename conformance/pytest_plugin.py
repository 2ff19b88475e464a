"""The pytest plugin: `pytest suites` runs the standing cases, each under its own id.

A file that an entry point `shardproof.suites` names yields one item per case of the profile. All items of a session
share one pool of workers; under pytest-xdist every worker process has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conformance.cases.case import Case
    from conformance.records.records import CaseRecord
    from conformance.runner.run import CaseRunner

PROFILE, DEFAULT = "--shardproof-profile", "smoke"
_OPEN = pytest.StashKey[ExitStack]()
_BENCH = pytest.StashKey["CaseRunner"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("shardproof")
    group.addoption(
        PROFILE, default=DEFAULT, metavar="P", help="standing cases to run: smoke, core, full, qualification"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "shardproof(mesh, dtype): the meshes and dtypes of the fixture shardproof_check")
    config.stash[_OPEN] = ExitStack()
    if config.getoption(PROFILE) != DEFAULT:  # other people's sessions load no more than this file
        _check_profile(config.getoption(PROFILE))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `shardproof_check` runs once for every mesh and dtype of its marker."""
    marker = metafunc.definition.get_closest_marker("shardproof")
    if marker is None or "shardproof_check" not in metafunc.fixturenames:
        return
    unknown = ", ".join(sorted(set(marker.kwargs) - {"mesh", "dtype"}))
    if unknown or marker.args or "mesh" not in marker.kwargs:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: write @pytest.mark.shardproof(mesh=[...], dtype=[...]); mesh is needed"
            + (f", and '{unknown}' is not known." if unknown else ".")
        )
    meshes, dtypes = (_several(marker.kwargs.get(name, "float64")) for name in ("mesh", "dtype"))
    cells = [(mesh, dtype) for mesh in meshes for dtype in dtypes]
    metafunc.parametrize("shardproof_check", cells, ids=["-".join(cell) for cell in cells], indirect=True)


def _several(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


@pytest.fixture
def shardproof_check(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """`conformance.check` on one mesh, in one dtype, of the marker `shardproof`; without that as it is."""
    from functools import partial

    import conformance

    if not hasattr(request, "param"):
        return conformance.check
    mesh, dtype = request.param
    return partial(conformance.check, mesh=mesh, dtype=dtype)


def _check_profile(profile: str) -> None:
    from conformance.cases.suite import PROFILES
    from conformance.cases.usage import UsageError, choose

    try:
        choose("profile", profile, PROFILES)
    except UsageError as wrong:
        raise pytest.UsageError(str(wrong)) from None


def pytest_unconfigure(config: pytest.Config) -> None:
    if _OPEN in config.stash:
        config.stash[_OPEN].close()


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    entry = _suite_at(file_path)
    return SuiteFile.from_parent(parent, path=file_path, entry=entry) if entry else None


def _suite_at(path: Path) -> EntryPoint | None:
    """The entry point whose module is this file."""
    for entry in entry_points(group="shardproof.suites"):
        parts = tuple(entry.module.split("."))
        if path.with_suffix("").parts[-len(parts) :] == parts:  # nothing is imported for a file of another name
            spec = find_spec(entry.module)
            if spec is not None and spec.origin is not None and Path(spec.origin).samefile(path):
                return entry
    return None


class SuiteFile(pytest.File):
    """The file of a suite: one item per standing case."""

    def __init__(self, *, entry: EntryPoint, **rest: Any) -> None:
        super().__init__(**rest)
        self.entry = entry

    def collect(self) -> Iterator[pytest.Item]:
        profile = self.config.getoption(PROFILE)
        cases = self.entry.load().cases(profile)
        if not cases:
            raise self.CollectError(f"The suite '{self.entry.name}' has no case in the profile '{profile}'.")
        for case in cases:
            yield CaseItem.from_parent(self, name=case.id, case=case)


class NotAsExpected(Exception):  # noqa: N818 - a verdict, not an error
    """A case whose verdict is not the expected one; carries its record."""

    def __init__(self, record: CaseRecord) -> None:
        super().__init__(f"{record.verdict}: {record.case}")
        self.record = record


class CaseItem(pytest.Item):
    """One standing case."""

    def __init__(self, *, case: Case, **rest: Any) -> None:
        super().__init__(**rest)
        self.case = case

    def runtest(self) -> None:
        from conformance.cases.resolve import resolve
        from conformance.records.records import CaseRecord
        from conformance.records.reproduce import reproduction
        from conformance.report.junit import properties_of

        result = _bench(self.session).judge_case(self.case, resolve(self.case))
        record = CaseRecord.of(result, reproduction(result))
        self.user_properties += properties_of(record).items()
        if record.stack or record.output:
            self.add_report_section("call", "worker", f"{record.stack}\n{record.output}".strip())
        if not record.as_expected:
            raise NotAsExpected(record)
        if record.verdict != "pass":
            pytest.skip(record.reason or record.verdict)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from conformance.report.terminal import what_failed

        if isinstance(excinfo.value, NotAsExpected):
            record = excinfo.value.record
            return "\n".join([f"{record.verdict.upper()} {record.case}", *what_failed(record)])
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


def _bench(session: pytest.Session) -> CaseRunner:
    """The session's warm workers, started for the first case."""
    if _BENCH not in session.stash:
        session.stash[_BENCH] = _started(session)
    return session.stash[_BENCH]


def _started(session: pytest.Session) -> CaseRunner:
    from conformance.runner.run import CaseRunner
    from conformance.workers.pool import Workers

    devices = max(item.case.mesh.devices for item in session.items if isinstance(item, CaseItem))
    workers = session.config.stash[_OPEN].enter_context(Workers(jax_devices=devices))
    return CaseRunner(workers=workers, alone=True)
