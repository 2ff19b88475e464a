"""Expert parallelism in JAX: every collective stands where it happens, under `shard_map`."""
