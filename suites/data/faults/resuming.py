"""State that is lost or permuted between the save of one program and the load of the next."""

from __future__ import annotations

import numpy as np

from suites.tensor.faults import Conforming


class SlotsLost(Conforming):
    """Parameters and counter are loaded, and the optimizer begins with new slots."""

    def load(self, folder, mesh):
        state = super().load(folder, mesh)
        optimizer = state["optimizer"].items()
        slots = {slot: {name: 0 * value for name, value in values.items()} for slot, values in optimizer}
        return state | {"optimizer": slots}


class StepBeforeSaved(Conforming):
    """The writer still holds the state of the step before."""

    def step(self, state, batch):
        self.before = state
        return super().step(state, batch)

    def save(self, state, folder):
        super().save(self.before, folder)


class FirstShardLoaded(Conforming):
    """Every rank of the shard axis reads the first shard of each parameter."""

    def as_loaded(self, whole):
        rows = len(whole)
        return whole[np.arange(rows) % -(-rows // self.mesh.size(self.shard_axis))]


class DealtOut(Conforming):
    """Where the number of shards has changed, rows are assumed to be distributed over shards round-robin."""

    def save(self, state, folder):
        (folder / "shards").write_text(str(self.mesh.size(self.shard_axis)))
        super().save(state, folder)

    def load(self, folder, mesh):
        self.saved_shards = int((folder / "shards").read_text())
        return super().load(folder, mesh)

    def as_loaded(self, whole):
        if self.saved_shards == self.mesh.size(self.shard_axis):
            return whole
        return whole[np.argsort(np.arange(len(whole)) % self.saved_shards, kind="stable")]


# Controls.


class SavedTwice(Conforming):
    """The second save overwrites the first, which is the same."""

    def save(self, state, folder):
        super().save(state, folder)
        super().save(state, folder)


class FilesBesides(Conforming):
    """Other files lie in the folder."""

    def save(self, state, folder):
        (folder / "notes.txt").write_text("step 2")
        super().save(state, folder)
