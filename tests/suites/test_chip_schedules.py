"""What is said of programs compiled for a chip: shares of no policy, and steps that may run beside a sum."""

from __future__ import annotations

from conformance.traffic.hlo_schedule import Launch
from suites.collectives.measure import overlap
from suites.memory.measure import at_target


def launch(place: int, end: int, size: int = 4096) -> Launch:
    return Launch(kind="all-reduce", operands=1, bytes=size, place=place, end=end)


def test_steps_under_two_sums_count_once():
    """Steps 2 to 5 and 4 to 8 overlap in one: six different steps run meanwhile; a sum that blocks hides none."""
    schedule = overlap.Schedule(program="p", steps=20, launches=(launch(2, 5), launch(4, 8), launch(9, 9)))
    assert (schedule.hidden, schedule.during, schedule.bytes) == (2, 6, 3 * 4096)
    assert "| p | 3 | 12.0 KiB | 2 | 6 | 20 |" in overlap.page([schedule])


def test_the_picture_has_a_row_for_each_schedule(tmp_path):
    schedules = [overlap.Schedule(program=name, steps=9, launches=(launch(1, 4),)) for name in ("a", "b")]
    overlap.draw(schedules, tmp_path / "overlap.svg")
    assert (tmp_path / "overlap.svg").read_text().count("<path") > 10


def test_policies_are_shown_beside_none():
    rows = [
        {"policy": "none", "temporaries": 4 * 2**20, "needed": 8 * 2**20, "products": 3e9},
        {"policy": "layer", "temporaries": 2**20, "needed": 5 * 2**20, "products": 4e9},
    ]
    page = at_target.page(rows)
    assert "| layer | 1.0 MiB | 25% | 5.0 MiB | 4.0 GFLOP | 133% |" in page
    assert "| none | 4.0 MiB | 100% | 8.0 MiB | 3.0 GFLOP | 100% |" in page
