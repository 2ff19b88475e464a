"""Tensor parallelism by torch's own means: nn.Modules that `parallelize_module` divides, and DTensors between them.

Every module is written for one device; the plan beside it says which linear layer is sharded by columns, which by rows.
"""
