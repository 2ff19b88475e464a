"""Dropout whose mask depends on nothing but a row's seed, the site, the token and the feature.

B: rows  S: tokens of a row  D: hidden
"""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF  # arithmetic is that of 32-bit words, kept in int64
_GOLDEN = 0x9E3779B9  # 2^32 by the golden ratio


def keep_mask(seeds_B: Tensor, site: str, shape_SD: tuple[int, int], rate: float) -> Tensor:
    """[B, S, D], true where a value is kept, which is so with probability 1 - rate.

    Law: a row's mask is a function of its own seed and of the site's name; it does not know the mesh, the dtype, the
    slice or the other rows. `shape_SD` are the whole row's tokens and features: draw once, then take what is yours.
    The generator hashes counters, so that it has no state and runs wherever tensors do (Steele, Lea and Flood, Fast
    Splittable Pseudorandom Number Generators, with the mixing function of MurmurHash3).
    """
    tokens, features = shape_SD
    key_B = _mixed(_mixed(seeds_B.long() & _WORD) ^ zlib.crc32(site.encode()))
    counter_SD = torch.arange(tokens * features, device=seeds_B.device).reshape(tokens, features)
    word_BSD = _mixed(_mixed(counter_SD * _GOLDEN & _WORD) ^ key_B[:, None, None])
    return word_BSD >= round(rate * 2**32)


def _mixed(word: Tensor) -> Tensor:
    """A permutation of 32-bit words in which each bit depends on every other."""
    word = (word ^ (word >> 16)) * 0x85EBCA6B & _WORD
    word = (word ^ (word >> 13)) * 0xC2B2AE35 & _WORD
    return word ^ (word >> 16)


def drop(x_BSD: Tensor, seeds_B: Tensor, site: str, rate: float) -> tuple[Tensor, Tensor]:
    """x where it is kept, enlarged by 1 / (1 - rate) so that its mean stays, else 0; and the mask.

    Source: Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, section 4.
    """
    keep_BSD = keep_mask(seeds_B, site, (x_BSD.shape[1], x_BSD.shape[2]), rate)
    return torch.where(keep_BSD, x_BSD / (1 - rate), 0), keep_BSD
