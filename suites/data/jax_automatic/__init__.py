"""Sharded state by annotation: the partitioner derives what is gathered and scattered."""
