"""What a planner is asked: a model, devices of a chip and a network, an objective, and what no plan may exceed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from conformance.cases.plan_file import family_named
from conformance.cases.plannable import ModelFamily, Training
from conformance.targets.chip import Chip

Objective = Literal["throughput", "memory", "latency"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
MARGIN = 0.1  # of a device's memory, as `shardproof scale` leaves it to libraries and buffers


@dataclass(frozen=True, kw_only=True)
class Question:
    """`chip.memory_bytes` is what a device has.

    asked            the model as it was asked for
    source           where its shape comes from
    axes             mesh axes that may divide something
    max_all_reduce   bytes of the largest all-reduce in one launch
    """

    asked: str
    source: str
    training: Training
    devices: int
    chip: Chip
    objective: Objective = "throughput"
    axes: tuple[str, ...] = ()
    max_all_reduce: int | None = None

    @property
    def family(self) -> ModelFamily:
        return family_named(self.training.family)

    @property
    def usable_bytes(self) -> int:
        """Of a device, less the margin."""
        return int(self.chip.memory_bytes * (1 - MARGIN))

    @property
    def tokens(self) -> int:
        return self.training.rows * self.training.length
