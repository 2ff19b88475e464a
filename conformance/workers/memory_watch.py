"""The memory watch: what the state of a training step takes, and what a step takes over of the state before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.evidence.evidence import Observations, StateBytes
from conformance.workers import buffers
from conformance.workers.instance import Instance


class MemoryWatch:
    """Looks at the states of one run, each as soon as it is there: a step may free or overwrite the one before."""

    def __init__(self, instance: Instance, state: Any) -> None:
        self._instance, self._state = instance, state
        self._before: tuple[buffers.Buffer, ...] | None = instance.buffers(state)
        self._sizes, self._reused = buffers.total(self._before), dict[int, int]()
        self.batch: Observations = {}

    def stepped(self, state: Any, seen: Mapping[str, Any]) -> None:
        """A step has returned; the first one shows the batch, and what it has taken over."""
        if self._before is not None:
            self.batch = self._instance.batch_held(seen)
            self._reused = buffers.reused(self._before, self._instance.buffers(state))
            self._before = None
        self._state = state

    def state_bytes(self) -> StateBytes | None:
        """Of the state after the last step; None where it has no tensor that can be seen."""
        state = self._instance.buffers(self._state)
        if not state:
            return None
        collected = self._instance.buffers(self._instance.implementation.collect(self._state))
        return StateBytes(
            held=buffers.total(state),
            before=self._sizes,
            reused=self._reused,
            copies=buffers.copies(state, collected),
        )
