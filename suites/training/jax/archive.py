"""Named arrays in a folder, through orbax, and a check for missing or damaged data.

Law: what is read is what was written, or ArchiveError is raised. The storage below orbax notices most damage by
itself, but a piece that is missing can read as zeros, and a folder whose writer was killed can look like a checkpoint.
So a manifest with the digest of every array is written last: no manifest, no checkpoint; and what was read is handed
out when every digest was found right. Every process of a run on many hosts reads all of it, and so judges alike.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jax.experimental.multihost_utils import sync_global_devices

# orbax takes a second to import: those who save and load nothing do not wait for it.

MANIFEST = "manifest.json"
ARRAYS = "arrays"  # orbax's own folder
Kinds = dict[str, tuple[tuple[int, ...], str]]  # shape and dtype of every array


class ArchiveError(Exception):
    """The folder holds no complete and unaltered archive of these arrays."""


def write(arrays: Mapping[str, np.ndarray], folder: Path) -> None:
    """Whole arrays, the same in every process, into a folder that all of them share."""
    import orbax.checkpoint as ocp

    folder = folder.absolute()
    if jax.process_index() == 0:
        (folder / MANIFEST).unlink(missing_ok=True)
    sync_global_devices("no manifest before the arrays")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        checkpointer.save(folder / ARRAYS, args=ocp.args.PyTreeSave(dict(arrays)), force=True)
    if jax.process_index() == 0:
        _seal(arrays, folder)
    sync_global_devices("the manifest is there")


def read(kinds: Kinds, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of these kinds, which must be all that there are."""
    manifest = _manifest(folder)
    wanted = {name: (list(shape), dtype) for name, (shape, dtype) in kinds.items()}
    held = {name: (entry["shape"], entry["dtype"]) for name, entry in manifest.items()}
    differing = sorted(name for name in {*wanted, *held} if wanted.get(name) != held.get(name))
    if differing:
        raise ArchiveError(f"The checkpoint in {folder} is of another training step: {differing[0]} differs.")
    arrays = _restored(kinds, folder.absolute())
    for name, entry in manifest.items():
        if _entry(arrays[name]) != entry:
            raise ArchiveError(f"{name} of the checkpoint in {folder} is not what was written.")
    return arrays


def _entry(array: np.ndarray) -> dict:
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}


def _seal(arrays: Mapping[str, np.ndarray], folder: Path) -> None:
    """Writes the manifest atomically, after everything else is written."""
    unfinished = folder / f"{MANIFEST}.tmp"
    with unfinished.open("w") as file:
        json.dump({name: _entry(array) for name, array in arrays.items()}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / MANIFEST)


def _manifest(folder: Path) -> dict[str, dict]:
    """Name -> shape, dtype and digest. Raises ArchiveError for whatever else it holds."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise ArchiveError(f"The checkpoint in {folder} is incomplete: there is no {MANIFEST}.") from error
    except (OSError, ValueError) as error:
        raise ArchiveError(f"The manifest of the checkpoint in {folder} cannot be read: {error}.") from error
    fields = {"shape", "dtype", "sha256"}
    entries = manifest.values() if isinstance(manifest, dict) else [None]
    if not all(isinstance(entry, dict) and set(entry) == fields for entry in entries):
        raise ArchiveError(f"The manifest of the checkpoint in {folder} is damaged.")
    return manifest


def _restored(kinds: Kinds, folder: Path) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    whole = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in kinds}
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            restored = checkpointer.restore(folder / ARRAYS, args=ocp.args.PyTreeRestore(restore_args=whole))
        return {name: np.asarray(restored[name]) for name in kinds}
    except Exception as error:  # of many kinds, from several libraries
        raise ArchiveError(f"The arrays of the checkpoint in {folder} cannot be read: {error}") from error
