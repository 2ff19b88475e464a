"""Megatron tensor parallelism under `shard_map`, every collective explicit.

Shoeybi et al., Megatron-LM, section 3: a block enters with a copy whose gradient is summed, multiplies by weights whose
columns are sharded, then by weights whose rows are sharded, and leaves with a sum. Read `collectives`, then `linear`.
"""
