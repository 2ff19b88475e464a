"""Dropout masks that depend on nothing but a row's seed, the site, the token and the feature.

B: rows  S: tokens of a row  D: features
"""

from __future__ import annotations

import zlib

import jax


def keep_mask(seeds_B: jax.Array, site: str, shape_SD: tuple[int, int], rate: float) -> jax.Array:
    """[B, S, D]: what is kept of whole rows; each element is dropped with probability `rate`."""

    def row(seed: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(site.encode()))
        return jax.random.uniform(key, shape_SD, "float32") >= rate

    return jax.vmap(row)(seeds_B)
