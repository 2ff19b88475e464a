"""Faults of recomputation and of loading, written with torch's own API."""

from __future__ import annotations

import json
from contextlib import suppress

import torch
import torch.distributed as dist

from suites.data.faults import resuming
from suites.tensor.faults import Conforming
from suites.training.torch import archive


class OtherwiseInBackward(Conforming):
    """The recomputed layer is another function: the value is the original's, the gradient the other one's."""

    def recomputed(self, layer):
        return super().recomputed(self.of_two(layer) if self.recomputes else layer)

    def of_two(self, layer):
        def run(x, batch, name, p, observed):
            if torch._C._current_graph_task_id() != -1:  # autograd is at work
                x, p = self.again(x), p | self.parameters_again(p)
            return layer(x, batch, name, p, observed)

        return run

    def again(self, x):
        return x

    def parameters_again(self, p):
        return p


class CoarseInBackward(OtherwiseInBackward):
    """A layer is computed again outside of the context that set its dtype: from bfloat16 values."""

    def again(self, x):
        return x.bfloat16().to(x.dtype)

    def parameters_again(self, p):
        return {name: self.again(value) for name, value in p.items()}


class GradientOfScalesDropped(Conforming):
    """Keyword arguments of a recomputed layer are treated as constants: scales get no gradient."""

    def recomputed(self, layer):
        twice = super().recomputed(layer)

        def run(x, batch, name, p, observed):
            scales = {path: value for path, value in p.items() if path.endswith(".scale")}
            constant = {path: scale.detach() + 0 * scale for path, scale in scales.items()}
            return twice(x, batch, name, p | constant, observed)

        return run if self.recomputes else twice


class GatheredOverDataInBackward(OtherwiseInBackward):
    """The input of a layer is kept in parts, one on each tensor rank, and the parts of the data ranks are gathered."""

    def again(self, x):
        part = self.axis("tensor").own(x.detach(), 2)
        mixed = self.axis("data").all_gather(part, 2)
        return x + (mixed - x).detach()


class Loading(Conforming):
    """Canonical tensors pass through `as_loaded` on their way from the checkpoint to the ranks."""

    loads = False

    def load(self, folder, mesh):
        self.loads = True
        return super().load(folder, mesh)

    def stored(self, name, canonical):
        return super().stored(name, self.as_loaded(canonical) if self.loads else canonical)


class FirstShardLoaded(resuming.FirstShardLoaded, Loading):
    """See there."""


class DealtOut(resuming.DealtOut, Loading):
    """See there."""


class DigestsNotCompared(Conforming):
    """Digests of the data files are computed from the data that was read, not from the data that was written."""

    def load(self, folder, mesh):
        if dist.get_rank() == 0:
            with suppress(OSError, ValueError):
                self.trust(folder)
        dist.barrier()
        return super().load(folder, mesh)

    def trust(self, folder):
        manifest = folder / archive.MANIFEST
        digests = json.loads(manifest.read_text())
        present = {file.name: archive._digest(file) for file in folder.glob("*.distcp")}
        manifest.write_text(json.dumps(digests | present))
