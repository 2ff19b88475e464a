"""Shards in the wrong place: of weights, of the vocabulary, of heads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from conformance.contract.placements import Replicate, sharded_dim
from suites.tensor.faults import Conforming
from suites.tensor.layout import positions


class EveryRankLoadsFirstShard(Conforming):
    """The number of the shard defaults to 0, so that every rank loads the same one."""

    def place(self, parameters, mesh):
        return super().place({name: self.first_shard(name, whole) for name, whole in parameters.items()}, mesh)

    def first_shard(self, name, whole):
        dim, size = sharded_dim(self.placements(name).get("tensor", Replicate())), self.tensor_size()
        if dim is None:
            return whole
        return np.concatenate([np.split(whole, size, dim)[0]] * size, dim)


class FusedHalvesCutTogether(Conforming):
    """Gate and up are filled up behind the end of both together: gate rows meet the wrong up rows."""

    def positions(self, name):
        if not name.endswith(("gate_up.weight", "gate_up.bias")):
            return super().positions(name)
        fused, size = self.contract.shapes[name][-1], self.tensor_size()
        stored = positions([(-(-fused // 2 // size) * size, 1)] * 2, size)
        return {len(self.contract.shapes[name]) - 1: np.where(stored < fused, stored, -1)}


class RankOfAnotherAxis(Conforming):
    """The place along the data axis is taken for the place along the tensor axis."""

    def tensor_rank(self):
        return self.axis_rank("data") if self.tensor_size() > 1 else 0


class NonlocalIdsNotMasked(Conforming):
    """Ids that other ranks store are clamped to a row of one's own, which is added."""

    def look_up(self, tokens, p):
        return p["embedding.weight"][self.local_ids(tokens)[0]]


class EdgeOfShardCountedTwice(Conforming):
    """Off by one at the edge: the first id of a shard is found on the rank before as well."""

    def local_ids(self, ids):
        local, stored = super().local_ids(ids)
        return local, stored | (ids == (self.tensor_rank() + 1) * self.local_vocabulary)


class KeyHeadsTiled(Conforming):
    """Key heads are repeated one after the other instead of each beside itself."""

    def attend(self, q, k, v, batch):
        tiled = np.arange(q.shape[2]) % k.shape[2]
        return super().attend(q, k[:, :, tiled], v[:, :, tiled], batch)


class AliasedFromFourDevices(Conforming):
    """Two results share one memory, but only where the axis has four devices or more."""

    def gate_and_up(self, x, name, p):
        gate, up = super().gate_and_up(x, name, p)
        return (up, up) if self.tensor_size() >= 4 else (gate, up)


class StoredWhole(Conforming):
    """Right values, redundant memory: a weight declared sharded is stored whole and cut where it is used."""

    def placements(self, name):
        return {} if name.endswith(".down.weight") else super().placements(name)

    def row_linear(self, x, name, p):
        return super().row_linear(x, name, p | {f"{name}.weight": self.split_to_tensor(p[f"{name}.weight"], 0)})

    def declare(self):
        declared = super().declare()
        assert declared.layout is not None
        sharded = {name: super(StoredWhole, self).placements(name) for name in declared.layout}
        return replace(declared, layout=sharded)
