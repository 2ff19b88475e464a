"""An instance: one implementation object on one mesh, and everything it does, read and timed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conformance.cases.case import Case
from conformance.contract.contract import Arrays, Contract
from conformance.contract.implementation import Implementation
from conformance.contract.mesh import Mesh
from conformance.evidence.evidence import Observations
from conformance.workers.buffers import Buffer, distinct
from conformance.workers.observe import Unreadable
from conformance.workers.platform import CachedProgram, Clock, Platform, Step

BATCH = "batch/"  # how the name of an observation begins that is a part of the batch


class Instance:
    """What an implementation does on a mesh; every method counts its seconds under the phase that it belongs to."""

    def __init__(self, warm: CachedProgram, case: Case, platform: Platform, clock: Clock) -> None:
        self.warm, self.case, self.platform, self.clock = warm, case, platform, clock
        self.device_mesh = platform.device_mesh(case)

    @property
    def implementation(self) -> Implementation:
        return self.warm.implementation

    @property
    def contract(self) -> Contract:
        return self.warm.contract

    @property
    def mesh(self) -> Mesh:
        return self.case.mesh

    def placed(self, parameters: Arrays) -> Any:
        with self.clock("place"):
            return self._awaited(self.implementation.place(copied(parameters), self.device_mesh))

    def initialized(self, seed: int) -> Any:
        """State with parameters that the implementation has drawn itself."""
        with self.clock("place"):
            return self._awaited(self.implementation.initialize(seed, self.device_mesh))

    def saved(self, state: Any, folder: Path) -> None:
        """A checkpoint, whole when this returns, on every rank."""
        with self.clock("collect"):
            self.implementation.save(state, folder)
            self.platform.barrier()

    def loaded(self, folder: Path) -> Any:
        with self.clock("place"):
            return self._awaited(self.implementation.load(folder, self.device_mesh))

    def stepped(self, state: Any, batch: Arrays, step: Step | None = None) -> tuple[Any, Mapping[str, Any]]:
        """One training step -> (new state, what it observed); the first one compiles where steps are compiled."""
        first = self.platform.compiles and not self.warm.ran
        with self.clock("compile" if first else "step"):
            returned = self.settled((step or self.implementation.step)(state, copied(batch)))
        self.warm.ran = True
        return returned

    def settled(self, returned: Any) -> tuple[Any, Mapping[str, Any]]:
        """What a step returned, computed."""
        if not isinstance(returned, tuple) or len(returned) != 2 or not isinstance(returned[1], Mapping):
            raise Unreadable("A step must return two things: the new state, and a mapping of observations.")
        self.platform.wait((returned[0], dict(returned[1])))
        return returned

    def collected(self, state: Any) -> Observations:
        with self.clock("collect"):
            return self.platform.observations(self.implementation.collect(state), self.case)

    def observed(self, values: Mapping[str, Any]) -> Observations:
        """What a step observed, but for the batch, which is no result."""
        results = {name: value for name, value in values.items() if not name.startswith(BATCH)}
        with self.clock("collect"):
            return self.platform.observations(results, self.case)

    def batch_held(self, values: Mapping[str, Any]) -> Observations:
        """Key of the batch -> what the ranks hold of it, where the step shows it."""
        shown = {name.removeprefix(BATCH): value for name, value in values.items() if name.startswith(BATCH)}
        with self.clock("collect"):
            return self.platform.observations(shown, self.case)

    def buffers(self, value: Any) -> tuple[Buffer, ...]:
        """What a state, or what was collected of it, holds in memory."""
        with self.clock("collect"):
            return distinct(self.platform.buffers(value, self.case))

    def first_step(self, parameters: Arrays, batch: Arrays) -> Observations:
        """Place, take one step: all that was observed, and the state after it."""
        return self.step_from(self.placed(parameters), batch)

    def step_from(self, state: Any, batch: Arrays) -> Observations:
        """One step from a state: all that was observed, and the state after it."""
        state, seen = self.stepped(state, batch)
        return self.observed(seen) | self.collected(state)

    def _awaited(self, state: Any) -> Any:
        self.platform.wait(state)
        return state


def copied(arrays: Arrays) -> Arrays:
    """An implementation may work in place on what it is given."""
    return {name: array.copy() for name, array in arrays.items()}
