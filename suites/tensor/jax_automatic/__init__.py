"""Tensor parallelism by annotation: the same placements as Megatron's, and XLA's partitioner finds the collectives."""
