"""The same on real devices, in series of their own; skipped where the machine shows none of them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from . import series


class Real(series.Step):
    devices = "real"
    needed: ClassVar[int]

    def setup(self, implementation: str, dtype: str) -> None:
        if self.needed > len(list(Path("/dev").glob("nvidia[0-9]*"))):
            raise NotImplementedError(f"{self.mesh} needs {self.needed} accelerators of its own.")
        super().setup(implementation, dtype)


class OneDevice(Real):
    contract, mesh, needed = "tensor/language_model", "data=1,tensor=1", 1
    params = (["jax-shard_map", "torch-collectives"], ["float32", "bfloat16"])


class EightDevices(Real):
    contract, mesh, needed = "tensor/language_model", "data=2,tensor=4", 8
    params = (["jax-shard_map", "torch-collectives"], ["float32", "bfloat16"])
