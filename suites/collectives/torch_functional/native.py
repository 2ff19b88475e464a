"""`torch.distributed._functional_collectives`: each returns a new tensor and has a gradient of torch's own.

torch has no gradient for a maximum, a minimum, a mean or a broadcast; those contracts are refused in its stead. A
permute is an all-to-all of blocks of uneven size there.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed._functional_collectives as functional
from torch import Tensor

from conformance.contract.implementation import CollectiveKind, Phase, Unsupported
from suites.collectives.torch_manual.joint_axis import Pairs
from suites.collectives.torch_manual.step import RowStep
from suites.training.traffic import Transfer

_WITHOUT_GRADIENT = ("max", "min", "row")


class Native(RowStep):
    """Every collective over all axes of the contract at once; the tensors that it is given go to torch as they are."""

    def require_supported(self) -> None:
        super().require_supported()
        if self.model.function in _WITHOUT_GRADIENT:
            kind = self.model.function if self.model.collective == "all_reduce" else "broadcast"
            raise Unsupported(f"The functional collectives of torch have no gradient for '{kind}'.")
        if self.model.function == "shift":
            raise Unsupported("permute_tensor of torch needs a source and a destination for every rank.")

    def all_reduce(self, x: Tensor) -> Tensor:
        return functional.all_reduce(x, "sum", self.joint.group) if self.axes_used else x

    def all_gather(self, x: Tensor, dim: int) -> Tensor:
        return functional.all_gather_single(x, dim, self.joint.group) if self.axes_used else x

    def reduce_scatter(self, x: Tensor, dim: int) -> Tensor:
        return functional.reduce_scatter_single(x, "sum", dim, self.joint.group) if self.axes_used else x

    def all_to_all(self, x: Tensor, split: int, concat: int) -> Tensor:
        if not self.axes_used:
            return x
        parts = torch.cat(x.chunk(self.devices, split))
        arrived = functional.all_to_all_single(parts, None, None, self.joint.group)
        return torch.cat(arrived.chunk(self.devices), concat)

    def permute(self, x: Tensor, pairs: Pairs) -> Tensor:
        if not self.axes_used:
            return x
        destinations = [destination for _, destination in sorted(pairs)]
        return functional.permute_tensor(x.reshape(-1), destinations, self.joint.group).reshape(x.shape)

    def broadcast(self, x: Tensor, source: int) -> Tensor:
        raise Unsupported("There is no gradient of a broadcast.")

    def extreme(self, x: Tensor, reduction: str) -> Tensor:
        raise Unsupported("There is no gradient of a maximum or minimum.")

    def collective_transfers(self, kind: CollectiveKind, phase: Phase, dtype: str) -> Iterator[Transfer]:
        yield from super().collective_transfers("all_to_all" if kind == "permute" else kind, phase, dtype)
