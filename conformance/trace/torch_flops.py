"""Floating point operations of the matrix products that one rank carries out, from torch's own formulas."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_ATTENTION_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def product_flops(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """2 x rows x columns x depth of a product, convolution or fused attention; 0 for every other operation."""
    packet = func.overloadpacket
    # Torch registers its fused attention for other devices only.
    if packet is _ATTENTION:
        return int(sdpa_flop_count(*(x.shape for x in args[:3])))
    if packet is _ATTENTION_BACKWARD:
        return int(sdpa_backward_flop_count(*(x.shape for x in args[:4])))
    return int(flop_registry[packet](*args, **kwargs, out_val=out)) if packet in flop_registry else 0
