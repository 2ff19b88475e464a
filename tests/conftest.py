"""How the tests of the house are run: in which tier each is.

`quick` starts no worker process and takes a minute in all, `reference` runs the single-device models against each other
and against finite differences, `workers` runs cases, commands, mutants and other people's programs, and compiles large
plans, `power` plants every fault once, and asks for the causes of other people's bugs. Hypothesis has no deadline: the
machines that run these tests are shared, and slow at times.
"""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")

TIERS = {
    "tests/suites/test_power.py": "power",
    "tests/capture/test_torch_trainer.py": "power",
    "tests/planted/": "power",
    "tests/suites/test_alive.py": "reference",
    "tests/suites/test_clean_plans.py": "workers",
    "tests/suites/test_collectives_buckets.py": "workers",
    "tests/suites/test_torch_at_scale.py": "workers",
    "tests/suites/test_data_killed_save.py": "workers",
    "tests/suites/test_hybrid_at_scale.py": "workers",
    "tests/suites/test_target_level.py": "workers",
    "tests/suites/test_hybrid_mixture_at_scale.py": "workers",
    "tests/suites/test_stages_at_scale.py": "workers",
    "tests/suites/test_declared_reduction.py": "workers",
    "tests/reference/": "reference",
    "tests/strangers/": "workers",
    "tests/workers/": "workers",
    "tests/trace/test_torch_trace.py": "workers",
    "tests/trace/test_jax_trace.py": "workers",
    "tests/trace/test_jax_memory_policies.py": "workers",
    "tests/trace/test_torch_memory_policies.py": "workers",
    "tests/trace/test_stream_budget.py": "workers",
    "tests/engine/test_relations.py": "workers",
    "tests/people/test_interruption.py": "workers",
    "tests/qualify/": "workers",
    "tests/planner/test_compiled_plan.py": "workers",
    "tests/planner/test_chain.py": "workers",
    "tests/planner/test_profile.py": "workers",
    "tests/planner/test_laws.py": "workers",
    "tests/planner/test_plan_command.py": "workers",
    "tests/benchmarks/": "workers",
    "tests/people/test_pages.py": "workers",
    "tests/people/test_pytest_plugin.py": "workers",
    "tests/capture/test_trainers.py": "workers",
    "tests/capture/test_pipeline.py": "workers",
    "tests/": "quick",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parents[1]
    for item in items:
        file = item.path.relative_to(root).as_posix()
        tier = tier_of(file) if isinstance(item, pytest.Function) else "workers"
        item.add_marker(getattr(pytest.mark, tier))


def tier_of(file: str) -> str:
    """The tier of the longest beginning of the path that has one."""
    return TIERS[max((start for start in TIERS if file.startswith(start)), key=len)]
