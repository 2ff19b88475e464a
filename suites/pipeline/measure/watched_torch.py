"""Torch pipelines that record when each piece of work ran, and how much autograd kept for it.

The figures leave as observations `watched/<what>/<rank>`, which only the rank that they belong to has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from suites.pipeline.partition import Cuts, balanced
from suites.pipeline.schedule import WORK, Event
from suites.pipeline.torch_manual.executor import Slice
from suites.pipeline.torch_manual.models import Perceptron
from suites.training.torch.state import Named, State

PROFILED = 5  # times that a stage unit is timed; the shortest counts


class Kept:
    """A tensor that autograd keeps; the bytes of all that are kept are counted in `meter`."""

    def __init__(self, tensor: Tensor, meter: Meter) -> None:
        self.tensor, self.meter = tensor, meter
        meter.add(tensor.nbytes)

    def __del__(self) -> None:
        self.meter.add(-self.tensor.nbytes)


class Meter:
    """Bytes that are kept now, and the most that ever were."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def add(self, size: int) -> None:
        self.now += size
        self.most = max(self.most, self.now)

    def hooks(self) -> Any:
        return torch.autograd.graph.saved_tensors_hooks(lambda tensor: Kept(tensor, self), lambda kept: kept.tensor)


class TracedStep(Perceptron):
    """Records the times of its events in seconds, and the peak number of live microbatches and of bytes."""

    def step(self, state: State, batch: dict[str, np.ndarray]) -> tuple[State, Mapping[str, Any]]:
        self.times: list[tuple[float, ...]] = []
        self.held, self.meter = 0, Meter()
        dist.barrier()
        state, seen = super().step(state, batch)
        rank = self.pipeline_rank
        return state, {
            "loss": seen["loss"],
            f"watched/times/{rank}": np.array(self.times),
            f"watched/held/{rank}": self.held,
            f"watched/bytes/{rank}": self.meter.most,
        }

    def stage(self, stage: int, p: Named, x: Named, batch: Named) -> tuple[Named, Named, Named]:
        out, _, sums = super().stage(stage, p, x, batch)
        return out, {}, sums

    def carry_out(self, event: Event, now: Slice) -> None:
        started = time.perf_counter()
        with self.meter.hooks():
            super().carry_out(event, now)
        self.held = max(self.held, len(now.passed))
        if event.kind in WORK:
            kind = float(WORK.index(event.kind))
            self.times.append((kind, event.stage, event.microbatch, started, time.perf_counter()))


class GPipe(TracedStep):
    schedule_name = "gpipe"


class OneFOneB(TracedStep):
    schedule_name = "1f1b"


class Interleaved(TracedStep):
    schedule_name = "interleaved"


class ZeroBubble(TracedStep):
    schedule_name = "zb-h1"


class ZBV(TracedStep):
    schedule_name = "zbv"


class CutEvenly(OneFOneB):
    """Every stage has as many stage units."""

    @cached_property
    def cuts(self) -> Cuts:
        stage_units, stages = len(self.stage_units), self.schedule.stages
        return tuple(round(stage * stage_units / stages) for stage in range(stages + 1))


class CutByTime(OneFOneB):
    """Every rank times all stage units, forward and backward; stages are balanced by the slowest rank's times."""

    @cached_property
    def cuts(self) -> Cuts:
        seconds = torch.tensor([self.seconds(number) for number in range(len(self.stage_units))])
        dist.all_reduce(seconds, op=dist.ReduceOp.MAX)
        return balanced(seconds.tolist(), self.schedule.stages)

    def seconds(self, number: int) -> float:
        """One microbatch through one stage unit, forward and backward."""
        unit, batch = self.stage_units[number], self.contract.batches(0, 1)[0]
        rows = len(batch["mask"]) // self.size(self.row_axes) // self.schedule.microbatches
        part = {key: torch.tensor(value[:rows], dtype=self.batch_dtype(key, value)) for key, value in batch.items()}
        p = {name: torch.rand(self.contract.shapes[name], requires_grad=True) for name in unit.parameters}
        x = {name: torch.rand((rows, *shape), requires_grad=True) for name, shape in unit.enters.items()}
        return min(_timed(self, unit.name, p, x, part) for _ in range(PROFILED))


def _timed(model: Perceptron, name: str, p: Named, x: Named, batch: Named) -> float:
    started = time.perf_counter()
    out = model.stage_unit(name, p, x, batch, {})
    result = out.get("loss", next(iter(out.values())).sum())
    torch.autograd.grad(result, [*p.values(), *x.values()])
    return time.perf_counter() - started
