"""Sequence and context parallelism by annotation: the program of one device, and where its activations lie."""
