"""A chip and its network, as far as public figures go: what a compiled program is held against.

Sources: NVIDIA H100 Tensor Core GPU Datasheet (SXM); NVIDIA H200 Tensor Core GPU Datasheet (SXM); NVIDIA A100 Tensor
Core GPU Datasheet (80 GB SXM); NVIDIA DGX H100 and DGX A100 user guides (8 GPUs and 8 network ports of 400 or 200 Gb/s
in a node); Google Cloud, TPU v5e (a slice takes the place of a node; of its network each chip has an equal share).
Figures are dense, without sparsity; link figures are for one direction.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.contract.errors import ShardproofError

TABLES = Path(__file__).parent / "tables"
USUAL = "h100"


class ChipError(ShardproofError, ValueError):
    """A chip that is not known, or a file that does not describe one; the message is one sentence."""


class Chip(BaseModel):
    """One device of a cluster.

    memory_bytes          of one device
    flops                 dtype -> floating-point operations per second of dense matrix products
    memory_bandwidth      bytes per second between its memory and its cores
    devices_per_node      devices that the fast links of a node connect
    node_bandwidth        bytes per second that one device sends to others of its node
    network_bandwidth     bytes per second that one device sends to other nodes
    table                 name of the device table that XLA compiles a CUDA program for; empty where there is none
    topology              kind of TPU that libtpu compiles a program for; empty where it is none
    source                where the figures come from
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    memory_bytes: int = Field(gt=0)
    flops: dict[str, float]
    memory_bandwidth: float = Field(gt=0)
    devices_per_node: int = Field(gt=0)
    node_bandwidth: float = Field(gt=0)
    network_bandwidth: float = Field(gt=0)
    table: str = ""
    topology: str = ""
    source: str

    @property
    def platform(self) -> str:
        """Whose compiler makes its program: cuda, tpu, or none."""
        return "cuda" if self.table else "tpu" if self.topology else ""

    def peak(self, dtype: str) -> float:
        """Operations per second of products in a dtype; where none are known, of float32, else of the fastest."""
        return self.flops.get(dtype, self.flops.get("float32", max(self.flops.values())))


_HOPPER = {"bfloat16": 989.4e12, "float16": 989.4e12, "float32": 494.7e12, "float64": 66.9e12}
CHIPS = {
    chip.name: chip
    for chip in (
        Chip(
            name="h100",
            memory_bytes=80 * 10**9,
            flops=_HOPPER,
            memory_bandwidth=3.35e12,
            devices_per_node=8,
            node_bandwidth=450e9,
            network_bandwidth=50e9,
            table="h100.txtpb",
            source="NVIDIA H100 datasheet (SXM), DGX H100 user guide",
        ),
        Chip(
            name="h200",
            memory_bytes=141 * 10**9,
            flops=_HOPPER,
            memory_bandwidth=4.8e12,
            devices_per_node=8,
            node_bandwidth=450e9,
            network_bandwidth=50e9,
            table="h100.txtpb",  # the same processor with more memory
            source="NVIDIA H200 datasheet (SXM), DGX H200 user guide",
        ),
        Chip(
            name="a100",
            memory_bytes=80 * 10**9,
            flops={"bfloat16": 312e12, "float16": 312e12, "float32": 156e12, "float64": 19.5e12},
            memory_bandwidth=2.039e12,
            devices_per_node=8,
            node_bandwidth=300e9,
            network_bandwidth=25e9,
            source="NVIDIA A100 datasheet (80 GB SXM), DGX A100 user guide",
        ),
        Chip(
            name="v5e",
            memory_bytes=16 * 2**30,
            flops={"bfloat16": 197e12},
            memory_bandwidth=819e9,
            devices_per_node=256,
            node_bandwidth=200e9,
            network_bandwidth=3.125e9,
            topology="v5e",
            source="Google Cloud, TPU v5e: specifications of a chip and of a pod",
        ),
    )
}


def chip_named(name: str) -> Chip:
    """A chip of the table, or one that a JSON file describes. Raises ChipError with one sentence."""
    if name in CHIPS:
        return CHIPS[name]
    path = Path(name)
    if not path.is_file():
        raise ChipError(f"There is no chip '{name}': the chips are {', '.join(CHIPS)}, or give a JSON file.")
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as wrong:
        raise ChipError(f"'{name}' does not describe a chip: it is no JSON file ({wrong}).") from None
    return chip_of(figures, name)


def chip_of(figures: Any, name: str) -> Chip:
    """A chip from its figures; `name` is where they stand. Raises ChipError with one sentence."""
    try:
        return Chip.model_validate(figures)
    except ValidationError as wrong:
        first = wrong.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ChipError(f"'{name}' does not describe a chip: {where}: {first['msg']}.") from None
