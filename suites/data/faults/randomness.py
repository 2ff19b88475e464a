"""Masks and initial values that are drawn in the wrong way, wherever the draw takes place."""

from __future__ import annotations

import numpy as np

from conformance.contract.placements import Replicate, sharded_dim
from suites.tensor.faults import Conforming


class OneMaskForAllSites(Conforming):
    """The random key is not split: every layer, and both blocks of it, drop the same elements."""

    def keep_mask(self, site, seeds):
        return super().keep_mask("embedding", seeds)


class KeptValuesNotEnlarged(Conforming):
    """Kept values are not divided by the keep probability."""

    def dropout(self, x, site, batch, observed):
        return super().dropout(x, site, batch, observed) * (1 - self.contract.model.dropout)


class SeedOfMesh(Conforming):
    """Each data rank folds its number into the key, and the parameters are those of the last one."""

    def initialize(self, seed, mesh):
        return super().initialize(seed + self.mesh.size("data") - 1, mesh)


class TensorShardsDrawnAlike(Conforming):
    """Every tensor rank draws its block of a parameter from the same key."""

    draws = False

    def initialize(self, seed, mesh):
        self.draws = True
        return super().initialize(seed, mesh)

    def place(self, parameters, mesh):
        if self.draws:
            parameters = {name: self.tiled(name, whole) for name, whole in parameters.items()}
        return super().place(parameters, mesh)

    def tiled(self, name, whole):
        dim = sharded_dim(self.placements(name).get("tensor", Replicate()))
        if dim is None:
            return whole
        size = whole.shape[dim]
        return whole.take(np.arange(size) % -(-size // self.mesh.size("tensor")), axis=dim)
