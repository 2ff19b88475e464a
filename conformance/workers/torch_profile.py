"""What `torch.profiler` saw of a step on one rank: the operations that the program dispatched, in their order.

Its events carry no process group: which axis a collective runs over is known of the traced program alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from torch.profiler import ProfilerActivity, profile

from conformance.workers.jobs import RankOperation

COLLECTIVES = ("c10d::", "_c10d_functional::", "gloo:")


def operations(run: Callable[[], Any], rank: int) -> tuple[RankOperation, ...]:
    """Operations that no other one called, and what gloo did on its own threads."""
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        started = time.time()
        run()
    events = [event for event in seen.events() if event.cpu_parent is None and not event.name.startswith("Profiler")]
    first = min((event.time_range.start for event in events), default=0.0)
    return tuple(
        RankOperation(
            rank=rank,
            name=event.name,
            communicates=event.name.startswith(COLLECTIVES),
            start_seconds=started + (event.time_range.start - first) / 1e6,
            seconds=event.time_range.elapsed_us() / 1e6,
        )
        for event in events
    )
