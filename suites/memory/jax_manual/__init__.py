"""Policies of memory in JAX, under `shard_map`."""
