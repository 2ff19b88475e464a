"""Which device holds which tokens of a row. Framework-neutral: numpy only.

Two layouts. *Block*: what attention, feed-forward and loss compute with; the row sharded over the sequence axis, alike
on all devices of the tensor axis. *Stream*: the residual stream between blocks; the tokens of a block sharded once more
over the tensor axis. What does not divide is padded at the end of the row: position -1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np

from conformance.contract.contract import Contract
from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, Shard
from suites.training.state_layout import Positions

CONTEXT = ("sequence",)  # the token axes of context parallelism


class TokenLayout:
    """Where tokens lie. The rows of a linear model are its tokens: they have no order, and dim 0 is sharded."""

    contract: Contract
    mesh: Mesh
    row_length: int
    tensor_axis: ClassVar[str]
    row_axes: ClassVar[tuple[str, ...]]
    token_axes: ClassVar[tuple[str, ...]] = ()  # CONTEXT where rows are sharded over the sequence axis too

    @property
    def token_dim(self) -> int:
        """The dim of a batch, or of an activation, along which its tokens lie."""
        return 0 if self.contract.model.kind == "linear" else 1

    def context_size(self) -> int:
        """Over how many devices the tokens that blocks compute with are sharded."""
        return self.mesh.size("sequence") if self.token_axes else 1

    def chunks(self) -> int:
        """Runs of consecutive tokens on a device of the sequence axis."""
        return 1

    def chunk_width(self) -> int:
        """Tokens of such a run; those of a device divide over the tensor axis."""
        width = -(-self.row_length // (self.context_size() * self.chunks()))
        while width * self.chunks() % self.mesh.size(self.tensor_axis):
            width += 1
        return width

    def token_order(self) -> np.ndarray:
        """Canonical index in its row of every stored token, device by device of the sequence axis; -1 for padding."""
        stored = np.arange(self.context_size() * self.chunks() * self.chunk_width())
        return np.where(stored < self.row_length, stored, -1)

    def block_order(self) -> Positions:
        """How the tokens of blocks lie; empty where that is canonical."""
        if self.token_dim == 0:
            return {}
        order = self.token_order()
        return {} if np.array_equal(order, np.arange(self.row_length)) else {1: order}

    def stream_order(self) -> Positions:
        """How the tokens of the residual stream lie; axes that divide the same dim nest in the order of the mesh."""
        rows = self.contract.batch_shapes["mask"][0]
        order, outer = (self.token_order(), CONTEXT) if self.token_dim else (np.arange(rows), self.row_axes)
        axes = [axis for axis in (*outer, self.tensor_axis) if self.mesh.size(axis) > 1 and self.divides_tokens(axis)]
        blocks = order.reshape(*(self.mesh.size(axis) for axis in axes), -1)
        nested = sorted(range(len(axes)), key=lambda i: self.mesh.axes.index(axes[i]))
        stored = blocks.transpose(*nested, len(axes)).reshape(-1)
        canonical = rows if self.token_dim == 0 else self.row_length
        return {} if np.array_equal(stored, np.arange(canonical)) else {self.token_dim: stored}

    def divides_tokens(self, axis: str) -> bool:
        """Whether an axis divides what lies along the token dim."""
        return axis in self.token_axes or axis == self.tensor_axis or self.token_dim == 0

    def block_placements(self) -> Placements:
        """Tokens as blocks compute with them."""
        rows = dict.fromkeys(self.row_axes, Shard(0))
        return rows if self.token_dim == 0 else rows | dict.fromkeys(self.token_axes, Shard(1))

    def stream_placements(self) -> Placements:
        """Tokens as the residual stream holds them."""
        return {**self.block_placements(), self.tensor_axis: Shard(self.token_dim)}

    def require_whole_tokens(self) -> None:
        """Refuse rows of a linear model that would have to be padded."""
        axes = (*self.row_axes, self.tensor_axis)
        rows, parts = self.contract.batch_shapes["mask"][0], int(np.prod([self.mesh.size(axis) for axis in axes]))
        if self.token_dim == 0 and rows % parts:
            raise Unsupported(f"{rows} rows, here the tokens, cannot be divided over {parts} devices.")


class ZigzagOrder(TokenLayout):
    """Of 2n chunks device i holds chunk i and chunk 2n-1-i: with a causal mask all have the same work.

    Source: Grattafiori et al., The Llama 3 Herd of Models, section 3.3.2 (context parallelism).
    """

    def chunks(self) -> int:
        return 2 if self.context_size() > 1 else 1

    def token_order(self) -> np.ndarray:
        size, width = self.context_size(), self.chunk_width()
        if size == 1:
            return super().token_order()
        chunks = super().token_order().reshape(2 * size, width)
        return chunks[[chunk for rank in range(size) for chunk in (rank, 2 * size - 1 - rank)]].reshape(-1)


class StreamLayout(TokenLayout):
    """A residual stream that is sharded along its tokens over the tensor axis."""

    placements: Callable[[str], Placements]
    slice_rows: int

    def is_partial(self, name: str) -> bool:
        """Replicated parameters are applied to other tokens or heads on each device, so their gradients are partial."""
        return self.mesh.size(self.tensor_axis) > 1 and self.tensor_axis not in self.placements(name)

    @property
    def slice_tokens(self) -> int:
        """Tokens of a slice that the blocks of one device compute with, padding included."""
        return self.slice_rows * (self.chunks() * self.chunk_width() if self.token_dim else 1)


class ContextLayout(StreamLayout):
    """Rows are sharded over the sequence axis too."""

    token_axes = CONTEXT


class TorchContextLayout(ZigzagOrder):
    """How torch's `context_parallel` divides rows, with a stream that is replicated over the tensor axis."""

    token_axes: ClassVar[tuple[str, ...]] = CONTEXT

    def chunks(self) -> int:
        """Under a causal mask every rank has an early and a late chunk, if the row divides into such chunks."""
        balanced = self.contract.model.causal and self.row_length % (2 * self.context_size()) == 0
        return super().chunks() if balanced else 1

    def token_order(self) -> np.ndarray:
        return super().token_order() if self.chunks() > 1 else np.arange(self.row_length)
