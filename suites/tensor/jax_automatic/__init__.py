"""Tensor parallelism by annotation: the placements are Megatron's, XLA's partitioner inserts the collectives."""
