"""The writer and the reader of captured tensors beside a plain file of the same bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from conformance.capture.files import TensorFile, read_tensors

TENSORS = {f"layers.{n}.weight": np.random.default_rng(n).standard_normal((256, 1024)) for n in range(8)}  # 16 MiB


def _captured(path: Path) -> None:
    file = TensorFile(path)
    for name, value in TENSORS.items():
        file.add(name, str(value.dtype), value.shape, memoryview(value).cast("B"))
    file.close()


def _plain(path: Path) -> None:
    with path.open("wb") as stream:
        for value in TENSORS.values():
            stream.write(memoryview(value).cast("B"))
        stream.flush()
        os.fsync(stream.fileno())


def test_tensors_are_written_beside_a_plain_file(beside, tmp_path: Path) -> None:
    beside(lambda: _captured(tmp_path / "a.safetensors"), lambda: _plain(tmp_path / "plain"))


def test_tensors_are_read_beside_a_plain_file(beside, tmp_path: Path) -> None:
    _captured(tmp_path / "a.safetensors")
    _plain(tmp_path / "plain")

    def read() -> None:
        assert np.array_equal(read_tensors(tmp_path / "a.safetensors")["layers.7.weight"], TENSORS["layers.7.weight"])

    beside(read, lambda: (tmp_path / "plain").read_bytes())
