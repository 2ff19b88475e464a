"""Data parallelism and ZeRO in torch, every collective in its place. One file for each way, each begins with its law.

data_parallel: nothing is sharded but rows. zero1: optimizer slots too. zero2: gradients too. zero3: parameters too.
"""
