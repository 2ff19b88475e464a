"""Attention differentiated as fused kernels do it: the sum in the gradient of the softmax is taken over outputs.

Law: sum_t weight_t dweight_t = sum_e out_e dout_e. The two sums are the same number in exact arithmetic. In floating
point the first one cancels exactly where one key has all the weight, and the second one does not.
Source: Dao et al., FlashAttention, 2022, appendix B.2.

B: rows  S: query tokens  T: key tokens  H: heads  E: head size
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Attend(torch.autograd.Function):
    """softmax(q k' / sqrt(E)) v over visible keys, the softmax in `statistics`; as many key heads as query heads."""

    @staticmethod
    def forward(
        ctx: Any, q_BHSE: Tensor, k_BHTE: Tensor, v_BHTE: Tensor, visible_BST: Tensor, statistics: torch.dtype
    ) -> Tensor:
        scores_BHST = (q_BHSE @ k_BHTE.transpose(2, 3)).to(statistics) / math.sqrt(q_BHSE.shape[3])
        weights_BHST = torch.softmax(scores_BHST.masked_fill(~visible_BST[:, None], -math.inf), dim=-1)
        out_BHSE = weights_BHST.to(v_BHTE.dtype) @ v_BHTE
        ctx.save_for_backward(q_BHSE, k_BHTE, v_BHTE, weights_BHST, out_BHSE)
        return out_BHSE

    @staticmethod
    def backward(ctx: Any, dout_BHSE: Tensor) -> tuple[Tensor | None, ...]:
        q_BHSE, k_BHTE, v_BHTE, weights_BHST, out_BHSE = ctx.saved_tensors
        dtype, statistics = v_BHTE.dtype, weights_BHST.dtype
        dv_BHTE = weights_BHST.to(dtype).transpose(2, 3) @ dout_BHSE
        dweights_BHST = (dout_BHSE @ v_BHTE.transpose(2, 3)).to(statistics)
        sum_BHS = (dout_BHSE.to(statistics) * out_BHSE.to(statistics)).sum(-1, keepdim=True)
        dscores_BHST = (weights_BHST * (dweights_BHST - sum_BHS) / math.sqrt(q_BHSE.shape[3])).to(dtype)
        return dscores_BHST @ k_BHTE, dscores_BHST.transpose(2, 3) @ q_BHSE, dv_BHTE, None, None
