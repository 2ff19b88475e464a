"""Collectives in JAX, under `shard_map`: those of `jax.lax`, and algorithms made of `ppermute`."""
