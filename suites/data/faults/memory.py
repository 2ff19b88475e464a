"""State that takes more memory than is declared of it, with the right values everywhere."""

from __future__ import annotations

from dataclasses import replace

from suites.tensor.faults import Conforming

EMBEDDING = "embedding.weight"


class Declared(Conforming):
    """What is declared is what the implementation behind the fault does."""

    def declared(self, kinds):
        """The entries of the layout that the fault breaks, as they ought to be."""
        return {}

    def declare(self):
        declared = super().declare()
        return replace(declared, traffic=None, layout={**declared.layout, **self.declared(self.contract.shapes)})


class GradientsKeptWhole(Declared):
    """Gradients are summed and not scattered, and stay whole until each rank updates its shard."""

    def declared(self, names):
        return {f"gradients/{name}": self.sharded_placements(name) for name in names}

    def no_gradients(self, parameters):
        """What slices are added to, in JAX: whole, as they are."""
        return {name: self.round_gradient(0 * p) for name, p in parameters.items()}

    def scatter_gradient(self, name, g):
        return self.reduced(self.round_gradient(g), lambda x: self.sum_over((self.shard_axis,), x))

    def gradient_placements(self, name):
        return self.computed_placements(name)

    def gradient_positions(self, name):
        return self.computed_positions(name)

    def update(self, state, gradients, factor):
        return super().update(state, {name: self.own_shard(name, g) for name, g in gradients.items()}, factor)


class GradientsWholeAsDeclared(GradientsKeptWhole):
    """A control: the same, and the implementation says so."""

    def declared(self, names):
        return {}


class GradientsKeptWide(Conforming):
    """Gradients are kept in the dtype of the optimizer, which is twice as wide as the recipe's."""

    @property
    def gradient_dtype(self):
        return "float64" if self.dtype == "float64" else "float32"


class SlotsKeptWhole(Declared):
    """Every rank keeps the optimizer slots of all shards, and updates its own."""

    def kept_whole(self, name):
        return True

    def declared(self, names):
        slots = [(slot, name) for slot in self.slot_names for name in names]
        return {f"optimizer/{slot}/{name}": self.sharded_placements(name) for slot, name in slots}

    def slot_placements(self, name):
        return self.computed_placements(name) if self.kept_whole(name) else super().slot_placements(name)

    def slot_positions(self, name):
        return self.computed_positions(name) if self.kept_whole(name) else super().slot_positions(name)

    def update(self, state, gradients, factor):
        new = super().update(state | {"optimizer": self.each(self.own_shard, state["optimizer"])}, gradients, factor)
        return new | {"optimizer": self.each(self.gather, new["optimizer"])}

    def each(self, change, slots):
        return {
            slot: {name: change(name, value) if self.kept_whole(name) else value for name, value in values.items()}
            for slot, values in slots.items()
        }


class EmbeddingSlotsKeptWhole(SlotsKeptWhole):
    """Those of the embedding alone: it was made before the others were sharded."""

    def kept_whole(self, name):
        return name == EMBEDDING


class BatchOnEveryRank(Declared):
    """The loader gives every rank the whole batch, and each takes its rows when the step has begun."""

    def declared(self, names):
        return {f"batch/{key}": super(BatchOnEveryRank, self).batch_placements(key) for key in self.batch_shapes}

    def batch_placements(self, key):
        return {}
