"""Sequence parallelism by torch's own means: `SequenceParallel` norms, and linear layers with layouts Shard(1)."""
