"""Attention inside torch's `context_parallel`: it divides the batch, and patches scaled_dot_product_attention.

B: rows  S: tokens of this rank  H: query heads  K: key heads  E: head size

Of torch 2.13 on a CPU: only the backend that computes with plain matrix products is differentiable there
(`_scaled_dot_product_flash_attention_for_cpu_backward` has no sharding strategy); it gathers keys and values and reduce-
scatters their gradients. With a GPU torch takes its ring of flash or memory-efficient attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.experimental import context_parallel
from torch.distributed.tensor.experimental._attention import _cp_options
from torch.nn.attention import SDPBackend, sdpa_kernel

from conformance.implementation import Declarations, Unsupported
from conformance.placements import Placements
from suites.sequence.arrangement import CONTEXT, Positions
from suites.tensor.torch_manual import attention
from suites.training.torch_state import Named, State
from suites.training.traffic import Transfer


class Attention(attention.Attention):
    """Whole rows arrive on every rank of the sequence axis; within a slice of the batch torch has divided them."""

    token_axes = CONTEXT

    def place(self, parameters: dict[str, np.ndarray], mesh: DeviceMesh) -> State:
        state = super().place(parameters, mesh)
        if self.is_divided and self.contract.model.causal:
            self.require_causal()
        self.require_no_mask()
        return state

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """Forward and backward run where the rows are divided."""
        batch = {key: value.clone() for key, value in batch.items()}
        with self.divided([value for value in batch.values() if value.dim() > 1]):
            return super().slice_gradients(parameters, batch)

    def attend(self, q_BSHE: Tensor, k_BSKE: Tensor, v_BSKE: Tensor, batch: Named) -> Tensor:
        if not self.is_divided:
            return super().attend(q_BSHE, k_BSKE, v_BSKE, batch)
        with self.backend():
            mixed_BHSE = F.scaled_dot_product_attention(
                *(x.transpose(1, 2) for x in (q_BSHE, k_BSKE, v_BSKE)),
                is_causal=self.contract.model.causal,
                enable_gqa=q_BSHE.shape[2] != k_BSKE.shape[2],
            )
        return mixed_BHSE.transpose(1, 2)

    # How torch divides rows.

    @property
    def is_divided(self) -> bool:
        return self.mesh.size("sequence") > 1

    @property
    def is_balanced(self) -> bool:
        """Under a causal mask torch gives every rank an early and a late chunk, if the row divides into such chunks."""
        return self.contract.model.causal and self.row_length % (2 * self.mesh.size("sequence")) == 0

    @contextmanager
    def divided(self, rows: list[Tensor], dim: int = 1) -> Iterator[None]:
        """Inside, tensors hold this rank's tokens along a dim; balanced or not, of which torch has no public switch."""
        if not self.is_divided:
            yield
            return
        before, _cp_options.enable_load_balance = _cp_options.enable_load_balance, self.contract.model.causal
        try:
            with context_parallel(self.device_mesh["sequence"], buffers=rows, buffer_seq_dims=[dim] * len(rows)):
                yield
        finally:
            _cp_options.enable_load_balance = before

    def backend(self) -> AbstractContextManager[None]:
        return sdpa_kernel(SDPBackend.MATH) if self.device_mesh.device_type == "cpu" else nullcontext()

    # What torch refuses.

    def require_supported(self) -> None:
        super().require_supported()
        size = self.mesh.size("sequence")
        if self.row_length % size:
            raise Unsupported(
                f"{self.row_length} tokens do not divide over {size} devices, and torch's context_parallel takes the "
                f"shards of queries and keys for equal ones: the sizes of its messages would not match."
            )

    def require_causal(self) -> None:
        """Ask torch itself, with a small example: what it says depends on the device."""
        size = self.mesh.size("sequence")
        x = torch.zeros(1, 1, 2 * size, 8, dtype=self.compute, device=self.device_mesh.device_type)
        try:
            with self.divided([x], dim=2), self.backend():
                F.scaled_dot_product_attention(x, x, x, is_causal=True)
        except (RuntimeError, NotImplementedError) as error:
            raise Unsupported(
                f"torch's context_parallel cannot do causal attention on the device {self.device_mesh.device_type}: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def require_no_mask(self) -> None:
        padded = any((batch["padding"] == 0).any() for batch in self.contract.batches(0, 1))
        if self.is_divided and (padded or self.contract.model.documents):
            kind = "documents" if self.contract.model.documents else "padding"
            raise Unsupported(f"torch's context_parallel supports no attention mask, which {kind} would need.")

    # Where tokens lie.

    @cached_property
    def token_order(self) -> np.ndarray:
        """Canonical index of every token, rank by rank."""
        order, size = np.arange(self.row_length), self.mesh.size("sequence")
        if not self.is_balanced:
            return order
        chunks = order.reshape(2 * size, -1)
        return np.concatenate([chunks[[rank, 2 * size - 1 - rank]].reshape(-1) for rank in range(size)])

    def block_positions(self) -> Tensor:
        return torch.from_numpy(self.token_order.reshape(self.mesh.size("sequence"), -1)[self.axis("sequence").rank])

    def batch_placements(self, key: str) -> Placements:
        return dict.fromkeys(self.row_axes, "S(0)")

    def positions(self, name: str) -> Positions:
        observed = name.startswith("outputs/") and self.is_divided and self.is_balanced
        return {1: self.token_order} if observed else super().positions(name)

    # What torch communicates.

    @property
    def slice_tokens(self) -> int:  # type: ignore[override]
        return super().slice_tokens // self.mesh.size("sequence")

    def declare(self) -> Declarations:
        """On another device than a CPU it is torch's choice how keys go round."""
        declared = super().declare()
        return declared if self.device_mesh.device_type == "cpu" else replace(declared, traffic=None)

    def transfers(self) -> Iterator[Transfer]:
        """Keys and values are gathered, for their gradients once more; their gradients are reduce-scattered."""
        yield from super().transfers()
        model, size = self.contract.model, self.mesh.size("sequence")
        elements = self.slice_tokens * size * max(model.kv_heads // self.tensor_size(), 1) * model.head_size
        for kind, phase in (("all_gather", "forward"), ("all_gather", "backward"), ("reduce_scatter", "backward")):
            yield self.slice_transfer("sequence", kind, phase, elements, self.compute, calls=2)
