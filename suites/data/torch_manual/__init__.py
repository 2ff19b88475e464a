"""Data parallelism and ZeRO in torch, every collective explicit. One file per variant, its law first.

data_parallel: only the rows are sharded. zero1: optimizer slots too. zero2: gradients too. zero3: parameters too.
"""
