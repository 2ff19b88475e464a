"""The schedules: each is one small function from (ranks, microbatches) to a `Schedule`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from suites.pipeline.schedule import Schedule
from suites.pipeline.schedules.gpipe import gpipe
from suites.pipeline.schedules.interleaved import interleaved
from suites.pipeline.schedules.one_f_one_b import one_f_one_b
from suites.pipeline.schedules.zbv import zbv
from suites.pipeline.schedules.zero_bubble import zero_bubble

SCHEDULES: Mapping[str, Callable[[int, int], Schedule]] = {
    "gpipe": gpipe,
    "1f1b": one_f_one_b,
    "interleaved": interleaved,
    "zb-h1": zero_bubble,
    "zbv": zbv,
}
