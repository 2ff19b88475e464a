"""Functions of rows by collectives: what each rank does before and after the one that it takes part in.

B: rows of a rank, V: all rows, N: features, M: lanes of a rank
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from suites.collectives.layout import RowsOverAxes
from suites.collectives.torch_manual.joint_axis import Pairs


class RowFunctions(RowsOverAxes):
    """The function of a contract."""

    # The collectives, over the axes of the contract. A subclass has them; each is differentiable.

    @abstractmethod
    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum of the x of all ranks."""

    @abstractmethod
    def all_gather(self, x: Tensor, dim: int) -> Tensor:
        """The x of all ranks side by side along a dim."""

    @abstractmethod
    def reduce_scatter(self, x: Tensor, dim: int) -> Tensor:
        """This rank's part along a dim of the sum."""

    @abstractmethod
    def all_to_all(self, x: Tensor, split: int, concat: int) -> Tensor:
        """Part i along one dim goes to rank i; what arrives lies side by side along another."""

    @abstractmethod
    def permute(self, x: Tensor, pairs: Pairs) -> Tensor:
        """What the source of this rank sends, zeros where it has none."""

    @abstractmethod
    def broadcast(self, x: Tensor, source: int) -> Tensor:
        """The x of one rank on all of them."""

    @abstractmethod
    def extreme(self, x: Tensor, reduction: str) -> Tensor:
        """`max` or `min` over the rows of all ranks; its gradient goes to the row that has it."""

    @abstractmethod
    def place_on_axis(self) -> int:
        """The number of this rank among those of the collective."""

    # The functions.

    def function(self, x_BNM: Tensor) -> Tensor:
        return getattr(self, f"by_{self.model.collective}")(self.without_padding(x_BNM))

    def without_padding(self, x_BNM: Tensor) -> Tensor:
        """Rows that are only there to fill up the last ranks: zeros, and nothing comes back to them."""
        if self.model.rows % self.devices == 0:
            return x_BNM
        return torch.where(self.are_rows()[:, None, None], x_BNM, torch.zeros_like(x_BNM))

    def are_rows(self) -> Tensor:
        return self.place_on_axis() * self.local_rows + torch.arange(self.local_rows) < self.model.rows

    def by_all_reduce(self, x_BNM: Tensor) -> Tensor:
        reduction = self.model.function
        if reduction in ("max", "min"):
            return self.extreme(x_BNM, reduction)
        if reduction == "mean":
            return self.seen(self.all_reduce, x_BNM.mean(0)) / self.devices
        return self.seen(self.all_reduce, x_BNM.sum(0, dtype=x_BNM.dtype))

    def by_all_gather(self, x_BNM: Tensor) -> Tensor:
        return self.seen(self.all_gather, x_BNM, 0)[: self.model.rows]

    def by_reduce_scatter(self, x_BNM: Tensor) -> Tensor:
        return self.seen(self.reduce_scatter, self.fill_features(x_BNM.sum(0, dtype=x_BNM.dtype), 0), 0)

    def by_all_to_all(self, x_BNM: Tensor) -> Tensor:
        y_VNM = self.seen(self.all_to_all, self.fill_features(x_BNM, 1), 1, 0)
        return y_VNM[: self.model.rows].transpose(0, 1)

    def by_permute(self, x_BNM: Tensor) -> Tensor:
        k, function = self.devices, self.model.function
        if function == "reverse":
            return self.seen(partial(self.permute, pairs=[(i, k - 1 - i) for i in range(k)]), x_BNM).flip(0)
        pairs = [(i, i + 1) for i in range(k - 1)] + ([(k - 1, 0)] if function == "roll" else [])
        return torch.cat([self.seen(partial(self.permute, pairs=pairs), x_BNM[-1:]), x_BNM[:-1]])

    def by_broadcast(self, x_BNM: Tensor) -> Tensor:
        source, row = divmod(self.model.root, self.local_rows)
        return self.seen(partial(self.broadcast, source=source), x_BNM[row])

    def fill_features(self, x: Tensor, dim: int) -> Tensor:
        """Zeros behind the last feature until they divide."""
        missing = self.devices * self.local_features - self.model.features
        return torch.nn.functional.pad(x.movedim(dim, -1), (0, missing)).movedim(-1, dim) if missing else x

    def seen(self, collective: Callable[..., Tensor], x: Tensor, *dims: int) -> Tensor:
        """A collective on x as the contract wants x seen: strided, a view with its lanes in front."""
        if not self.model.strided:
            return collective(x, *dims)
        return collective(x.movedim(-1, 0), *(dim + 1 for dim in dims)).movedim(0, -1)
