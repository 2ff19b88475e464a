"""Tensor parallelism by axis type: explicit axes, and explicit, automatic and manual ones in one program."""
