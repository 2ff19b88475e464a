"""Attention inside torch's `context_parallel`: it divides the batch, and patches scaled_dot_product_attention.

B: rows  S: tokens of this rank  T: tokens of the row  H: query heads  K: key heads  E: head size

Of torch 2.13 on a CPU: only the backend that computes with plain matrix products is differentiable there
(`_scaled_dot_product_flash_attention_for_cpu_backward` has no sharding strategy); it gathers keys and values and
reduce-scatters their gradients. With a GPU torch takes its ring of flash or memory-efficient attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.experimental import context_parallel
from torch.distributed.tensor.experimental._attention import _cp_options
from torch.nn.attention import SDPBackend, sdpa_kernel

from conformance.contract.implementation import Declarations, Unsupported
from conformance.contract.placements import Placements, Shard
from suites.sequence.token_layout import TorchContextLayout
from suites.sequence.torch_context_parallel.budget import BUDGETS
from suites.tensor.torch_manual import attention
from suites.training.state_layout import Positions
from suites.training.step_budget import Budgets
from suites.training.torch import layers
from suites.training.torch.state import Named, State


class Attention(TorchContextLayout, attention.Attention):
    """Whole rows arrive on every rank of the sequence axis; within a slice of the batch torch has sharded them."""

    sends: ClassVar[Budgets] = BUDGETS

    def place(self, parameters: dict[str, np.ndarray], mesh: DeviceMesh) -> State:
        state = super().place(parameters, mesh)
        if self.is_sharded and self.contract.model.causal:
            self.require_causal()
        return state

    def slice_gradients(self, parameters: Named, batch: Named) -> tuple[Named, Named, Named]:
        """Forward and backward run where the rows are sharded; a mask is about whole rows and is made before."""
        sharded = {key: value.clone() for key, value in batch.items()}
        with self.sharded([value for value in sharded.values() if value.dim() > 1]):
            return super().slice_gradients(parameters, sharded | self.mask(batch))

    def attend(self, q_BSHE: Tensor, k_BSKE: Tensor, v_BSKE: Tensor, batch: Named) -> Tensor:
        if not self.is_sharded:
            return super().attend(q_BSHE, k_BSKE, v_BSKE, batch)
        q_BHSE, k_BKSE, v_BKSE = (x.transpose(1, 2) for x in (q_BSHE, k_BSKE, v_BSKE))
        mixed_BHSE = self.scaled_dot_product(q_BHSE, k_BKSE, v_BKSE, batch.get("visible"))
        return mixed_BHSE.transpose(1, 2)

    def scaled_dot_product(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        causal = self.contract.model.causal and mask is None
        try:
            with self.backend():
                return F.scaled_dot_product_attention(
                    q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
                )
        except (RuntimeError, NotImplementedError) as error:
            kind = "a mask" if mask is not None else "a causal mask" if causal else "no mask"
            raise Unsupported(
                f"torch's context_parallel, given {kind}, says on the device {self.device_mesh.device_type}: "
                f"{str(error).splitlines()[0]}"
            ) from error

    def mask(self, batch: Named) -> Named:
        """[B, 1, S, T] whom this rank's tokens see, where the rows have padding or documents."""
        model, attention_mask_BT = self.contract.model, batch["attention_mask"]
        if not self.is_sharded or (attention_mask_BT.all() and not model.documents):
            return {}
        document_starts_BT = batch["document_starts"].cumsum(1) if model.documents else None
        own_S, whole_T = self.block_positions(), torch.arange(self.row_length)
        documents = None if document_starts_BT is None else (document_starts_BT[:, own_S], document_starts_BT)
        return {"visible": layers.visible(own_S, whole_T, attention_mask_BT, documents, model.causal)[:, None]}

    # How torch divides rows.

    @property
    def is_sharded(self) -> bool:
        return self.context_size() > 1

    @contextmanager
    def sharded(self, rows: list[Tensor], dim: int = 1) -> Iterator[None]:
        """Inside, tensors hold this rank's tokens along a dim; balanced or not, of which torch has no public switch."""
        if not self.is_sharded:
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
        size = self.context_size()
        if self.row_length % size:
            raise Unsupported(
                f"{self.row_length} tokens do not divide over {size} devices, and torch's context_parallel takes the "
                f"shards of queries and keys for equal ones: the sizes of its messages would not match."
            )

    def require_causal(self) -> None:
        """Runs a small example, since torch's support depends on the device."""
        size = self.context_size()
        x = torch.zeros(1, 1, 2 * size, 8, dtype=self.compute, device=self.device_mesh.device_type)
        with self.sharded([x], dim=2):
            self.scaled_dot_product(x, x, x, None)

    # Where tokens lie.

    def block_positions(self) -> Tensor:
        return torch.tensor(self.token_order().reshape(self.context_size(), -1)[self.axis("sequence").rank])

    def batch_placements(self, key: str) -> Placements:
        return dict.fromkeys(self.row_axes, Shard(0))

    def input_placements(self, key: str) -> Placements:
        """The placements that torch's context_parallel gives it."""
        return self.row_placements()

    def input_positions(self, key: str) -> Positions:
        return self.block_order()

    def positions(self, name: str) -> Positions:
        return self.block_order() if name.startswith("outputs/") else super().positions(name)

    def declare(self) -> Declarations:
        """On another device than a CPU it is torch's choice how keys go round."""
        declared = super().declare()
        return declared if self.device_mesh.device_type == "cpu" else replace(declared, traffic=None)
