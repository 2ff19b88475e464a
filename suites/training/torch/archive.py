"""Named tensors in a folder, through torch.distributed.checkpoint (DCP), and a check for missing or damaged data.

Law: what is read is what was written, or ArchiveError is raised by all ranks together. DCP by itself notices a missing
or shortened file, but reads flipped bytes as numbers, on the ranks that need them. So a manifest with the digest of
every file is written last: no manifest, no checkpoint; and nothing is read before every digest was found right.

A tensor is cut evenly over all processes, whichever mesh they form, so that each writes and reads its share.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard

MANIFEST = "manifest.json"
Kinds = dict[str, tuple[tuple[int, ...], torch.dtype]]  # shape and dtype of every tensor


class ArchiveError(Exception):
    """The folder holds no complete and unaltered archive of these tensors."""


def write(tensors: Iterable[tuple[str, Tensor]], folder: Path) -> None:
    """Whole tensors, the same on every rank, into a folder that all of them share."""
    if dist.get_rank() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
    dist.barrier()
    world = _world()
    shares = {name: _share(whole, world) for name, whole in tensors}
    dcp.save(shares, checkpoint_id=folder)
    if dist.get_rank() == 0:
        _seal(folder)
    dist.barrier()


def read(kinds: Kinds, folder: Path) -> Iterator[tuple[str, Tensor]]:
    """The whole tensors on every rank, one after the other."""
    _agree(_damage(folder))
    world = _world()
    shares = {name: _share(torch.empty(shape, dtype=dtype), world) for name, (shape, dtype) in kinds.items()}
    _agree(_unlike(kinds, folder))
    dcp.load(shares, checkpoint_id=folder)
    for name in kinds:
        yield name, shares.pop(name).full_tensor().reshape(kinds[name][0])


def _world() -> DeviceMesh:
    return DeviceMesh("cpu", torch.arange(dist.get_world_size()))


def _share(whole: Tensor, world: DeviceMesh) -> DTensor:
    """This process's part of the elements, as a part of them all."""
    flat, width = whole.flatten(), -(-whole.numel() // world.size())
    start = min(dist.get_rank() * width, len(flat))
    own = flat[start : start + width].clone()
    return DTensor.from_local(own, world, [Shard(0)], run_check=False, shape=flat.shape, stride=(1,))


def _seal(folder: Path) -> None:
    """Writes the manifest atomically, after everything else is written."""
    digests = {
        path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }
    unfinished = folder / f"{MANIFEST}.tmp"
    with unfinished.open("w") as file:
        json.dump(digests, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / MANIFEST)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _damage(folder: Path) -> str:
    """A sentence for the first file of this process's share that is not what was written; empty if there is none."""
    try:
        digests: Mapping[str, str] = json.loads((folder / MANIFEST).read_text())
        for name in sorted(digests)[dist.get_rank() :: dist.get_world_size()]:
            if _digest(folder / name) != digests[name]:
                return f"The file {name} of the checkpoint in {folder} is not the one that was written."
    except FileNotFoundError as error:
        return f"The checkpoint in {folder} is incomplete: there is no {Path(error.filename).name}."
    except (OSError, ValueError, AttributeError, TypeError) as error:
        return f"The checkpoint in {folder} cannot be read: {error}."
    return ""


def _unlike(kinds: Kinds, folder: Path) -> str:
    """A sentence if the archive holds other tensors than those that are wanted."""
    held = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    present = {
        name: (tensor.size.numel(), tensor.properties.dtype)
        for name, tensor in held.items()
        if isinstance(tensor, TensorStorageMetadata)
    }
    wanted = {name: (math.prod(shape), dtype) for name, (shape, dtype) in kinds.items()}
    differing = sorted(name for name in {*present, *wanted} if present.get(name) != wanted.get(name))
    return f"The checkpoint in {folder} is of another training step: {differing[0]} differs." if differing else ""


def _agree(problem: str) -> None:
    """Raise on every rank if any has a problem, so that none goes on alone."""
    problems: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(problems, problem)
    if any(problems):
        raise ArchiveError(next(filter(None, problems)))
