"""Hybrid parallelism by annotation: layers stacked and scanned, as programs of production size are written."""
