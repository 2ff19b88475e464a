"""Sequence and context parallelism under `shard_map`, every collective explicit.

Read `collectives` and `sequence_parallel` (tokens over the tensor axis), then `context` (rows over the sequence axis),
`ring`, `zigzag` and `ulysses`. All are mixins that come before the classes of tensor parallelism in the bases.
"""
