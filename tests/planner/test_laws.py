"""Laws of planners: ours keeps them all, a guide's breaks several, and each law has a planner that it must catch."""

from __future__ import annotations

import pytest

from conformance.planner import laws
from tests.planner import planners

CAUGHT = [
    ("devices", planners.loses_devices),
    ("answers", planners.gives_up),
    ("fits", planners.copies),
    ("divisibility", planners.splits_heads),
    ("dead axes", planners.has_experts),
    ("memory helps", planners.wastes_memory),
    ("devices help", planners.grows),
    ("units", planners.reads_numbers),
    ("units", planners.reads_gibibytes),
    ("answers", planners.raises),
    ("divisibility", planners.odd_microbatches),
    ("divisibility", planners.unknown_policy),
    ("divisibility", planners.too_many_stages),
    ("steady", planners.changes_its_mind),
]


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.name)
def test_our_planner_keeps(law: laws.Law) -> None:
    said = list(law.breaches(planners.ours))
    assert len(said) >= 2
    assert not any(said), "\n".join(filter(None, said))


@pytest.mark.parametrize(("name", "planner"), CAUGHT, ids=[f"{name}-{p.__name__}" for name, p in CAUGHT])
def test_a_law_catches(name: str, planner: laws.Planner) -> None:
    [law] = [law for law in laws.LAWS if law.name == name]
    assert any(law.breaches(planner))


def test_the_guide_is_caught_by_name() -> None:
    broken = {judged.law: judged.breaches for judged in laws.judge(planners.guide) if judged.verdict == "fail"}
    assert {"devices", "fits", "units"} <= set(broken)
    assert broken["devices"][0].startswith("1.3B on 6 devices of 80GiB: 4 of 6 devices are used")
    assert any(sentence.startswith("'175' is taken for a size") for sentence in broken["units"])
    assert any(sentence.startswith("175B on 64 devices of 40GB") for sentence in broken["fits"])
