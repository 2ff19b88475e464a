"""Dropout masks that depend on nothing but a row's seed, the site, the token and the feature.

B: rows  S: tokens of a row  D: features
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor


def keep_mask(seeds_B: Tensor, site: str, shape_SD: tuple[int, int], rate: float) -> Tensor:
    """[B, S, D]: what is kept of whole rows; each element is dropped with probability `rate`."""
    return torch.stack([_row(int(seed), site, shape_SD) >= rate for seed in seeds_B])


def _row(seed: int, site: str, shape_SD: tuple[int, int]) -> Tensor:
    generator = torch.Generator().manual_seed((seed << 32) | zlib.crc32(site.encode()))
    return torch.rand(shape_SD, generator=generator, dtype=torch.float32)
