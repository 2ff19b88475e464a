"""Roles: what a mesh axis is for, by its usual name. Axes may have any name; a rule that needs the role asks here."""

from __future__ import annotations

from collections.abc import Mapping

ROLES = ("data", "fsdp", "tensor", "sequence", "pipeline", "expert")

# Names in use beside those of the roles themselves: guides of JAX, MaxText, torchtitan, Megatron-LM, DeepSpeed.
USUAL = {
    "batch": "data",
    "dp": "data",
    "replica": "data",
    "dp_replicate": "data",
    "ddp": "data",
    "dp_shard": "fsdp",
    "shard": "fsdp",
    "zero": "fsdp",
    "model": "tensor",
    "mp": "tensor",
    "tp": "tensor",
    "sp": "sequence",
    "seq": "sequence",
    "cp": "sequence",
    "context": "sequence",
    "pp": "pipeline",
    "pipe": "pipeline",
    "stage": "pipeline",
    "ep": "expert",
    "experts": "expert",
}


def role(axis: str, given: Mapping[str, str]) -> str | None:
    """The role of an axis: what was said of it, else what its name usually means, else None."""
    return given.get(axis) or (axis if axis in ROLES else USUAL.get(axis))
