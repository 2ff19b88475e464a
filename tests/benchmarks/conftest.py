"""Benchmarks of the engine's own hot paths, each as a multiple of something plain that is timed in turns with it.

`pytest tests/benchmarks` fails where a multiple is more than ALLOWED times the one in `baseline.json`; with
`--keep-baseline` it writes that file. Absolute times are never compared: machines differ, and are busy.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from conformance.workers.jax_worker import flags

# JAX reads these when it is first used, which no module here does while it is imported.
os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {' '.join(flags())}")

HERE = Path(__file__).resolve().parent
BASELINE = HERE / "baseline.json"
ALLOWED = 2.0
ROUNDS = 15
KEPT = pytest.StashKey[dict[str, float]]()
Work = Callable[[], object]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-baseline", action="store_true", help="write the multiples of this run as the new baseline")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[KEPT] = {}


def pytest_sessionfinish(session: pytest.Session) -> None:
    kept = session.config.stash[KEPT]
    if kept and session.config.getoption("--keep-baseline"):
        BASELINE.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", encoding="utf-8")


@pytest.fixture(scope="session", autouse=True)
def float64() -> None:
    pytest.importorskip("jax").config.update("jax_enable_x64", True)


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Callable[[Work, Work], None]:
    """`beside(work, plain)`: time both in turns; the shortest of each counts, which other work disturbs least.

    Among all other tests, and in several processes, both run once and nothing is held.
    """

    def hold(work: Work, plain: Work) -> None:
        if not any(Path(argument).resolve().is_relative_to(HERE) for argument in request.config.args):
            plain()
            work()
            return
        multiple = _multiple(request.getfixturevalue("benchmark"), work, plain)
        request.config.stash[KEPT][request.node.name] = round(multiple, 3)
        if not request.config.getoption("--keep-baseline"):
            before = json.loads(BASELINE.read_text(encoding="utf-8"))[request.node.name]
            assert multiple <= ALLOWED * before, f"{multiple:.2f} times the plain way, which was {before:.2f} times"

    return hold


def _multiple(benchmark: BenchmarkFixture, work: Work, plain: Work) -> float:
    plain_seconds: list[float] = []

    def time_plain() -> None:
        started = time.perf_counter()
        plain()
        plain_seconds.append(time.perf_counter() - started)

    benchmark.pedantic(work, setup=time_plain, rounds=ROUNDS, warmup_rounds=1)
    multiple = benchmark.stats.stats.min / min(plain_seconds)
    benchmark.extra_info["multiple"] = multiple
    return multiple
