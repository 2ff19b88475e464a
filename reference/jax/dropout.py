"""Dropout whose mask depends on nothing but a row's seed, the site, the token and the feature.

B: rows  S: tokens of a row  D: hidden
"""

from __future__ import annotations

import zlib

import jax
import jax.numpy as jnp
import numpy as np


def keep_mask(seeds_B: jax.Array, site: str, shape_SD: tuple[int, int], rate: float) -> jax.Array:
    """[B, S, D], true where a value is kept, which is so with probability 1 - rate.

    Law: a row's mask is a function of its own seed and of the site's name; it does not know the mesh, the dtype, the
    slice or the other rows. `shape_SD` are the whole row's tokens and features: draw once, then take what is yours.
    The generator is Threefry (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3), with every index a counter.
    """
    name = np.uint32(zlib.crc32(site.encode()))

    def row(seed: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), name)
        return jax.random.uniform(key, shape_SD, dtype=jnp.float32) >= rate

    return jax.vmap(row)(jnp.asarray(seeds_B))


def drop(x_BSD: jax.Array, seeds_B: jax.Array, site: str, rate: float) -> tuple[jax.Array, jax.Array]:
    """x where it is kept, enlarged by 1 / (1 - rate) so that its mean stays, else 0; and the mask.

    Source: Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting, section 4.
    """
    keep_BSD = keep_mask(seeds_B, site, (x_BSD.shape[1], x_BSD.shape[2]), rate)
    return jnp.where(keep_BSD, x_BSD / (1 - rate), 0), keep_BSD
