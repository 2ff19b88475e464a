"""Cases: contract x implementation x mesh x dtype x seed, and their ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from conformance.contract.mesh import Mesh

Dtype = Literal["float64", "float32", "bfloat16", "float16"]
Verdict = Literal["pass", "fail", "error", "hang", "crash", "unsupported", "waived"]

DTYPES: tuple[Dtype, ...] = get_args(Dtype)
DEVICES = ("emulated", "single", "real")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One generated change to one collective: the operator and the number of the collective in program order."""

    operator: str
    site: int

    def __str__(self) -> str:
        return f"{self.operator}@{self.site}"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to judge. `implementation` is a registered name (`jax-shard_map`) or an outsider's `file.py:Class`."""

    contract: str
    implementation: str
    mesh: Mesh
    dtype: Dtype
    seed: int = 0
    devices: str = "emulated"
    fault: str | None = None
    mutation: Mutation | None = None
    expect: Verdict = "pass"

    @property
    def suite(self) -> str:
        return self.contract.partition("/")[0]

    @property
    def id(self) -> str:
        """`tensor/mlp[jax-shard_map-data2_tensor4-float64]`; a seed, fault or mutation is added where there is one."""
        parts = [self.implementation, self.mesh.slug, self.dtype]
        parts += [f"seed{self.seed}"] if self.seed else []
        parts += [f"fault:{self.fault}"] if self.fault else []
        parts += [f"mutation:{self.mutation}"] if self.mutation else []
        parts += [self.devices] if self.devices != "emulated" else []
        return f"{self.contract}[{'-'.join(parts)}]"
