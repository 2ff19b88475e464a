"""Data parallelism and ZeRO under `shard_map`, every collective in its place. One file for each way, its law first.

data_parallel: nothing is sharded but rows. zero1: optimizer slots too. zero2: gradients too. zero3: parameters too.
"""
