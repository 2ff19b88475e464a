"""FSDP2 that gathers ahead: a layer's parameters are on their way while the layer before it still computes.

Law: what is gathered, how often, and every bit of the result stay as they are without it; only the order changes in
which collectives begin. Forward the order is that of the layers, backward the reverse.
Source: https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html, `set_modules_to_forward_prefetch` and
`set_modules_to_backward_prefetch`.
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import cast

from torch.distributed.fsdp import FSDPModule

from suites.data.torch_fsdp2 import training
from suites.data.torch_fsdp2.modules import Node


class LanguageModel(training.LanguageModel):
    """The decoder language model, each layer gathered during the one before."""

    @cached_property
    def model(self) -> Node:
        root: Node = super().model
        layers = [cast(FSDPModule, root.get_submodule(path)) for path in self.layer_paths]
        for earlier, later in pairwise(layers):
            earlier.set_modules_to_forward_prefetch([later])
            later.set_modules_to_backward_prefetch([earlier])
        return root
