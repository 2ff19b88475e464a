"""Tensor files: safetensors, written one tensor at a time, so that one alone is in memory, and whole or not there.

The format (huggingface.co/docs/safetensors): 8 bytes with the length of the header, a JSON header, the tensors' bytes
one after the other. The header comes first and is known last, so tensors wait in a file without a name.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - teaches numpy the names bfloat16 and float8
import numpy as np

from conformance.cases.usage import UsageError
from conformance.records.files import WriteFailed, cannot_write

CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint64": "U64",
    "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
DTYPES = {code: name for name, code in CODES.items()}


class TensorFile:
    """A file to come; `close` puts it where `path` says. Raises WriteFailed where the disk refuses."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes = path, 0
        self._header: dict[str, Any] = {}
        self._waiting = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115 - `close` closes it

    def add(self, key: str, dtype: str, shape: tuple[int, ...], content: memoryview) -> None:
        """The bytes of one tensor, row by row, as they lie in memory: nothing is rounded."""
        try:
            self._waiting.write(content)
        except OSError as wrong:
            raise WriteFailed(cannot_write(self.path, wrong)) from wrong
        offsets = [self.bytes, self.bytes + content.nbytes]
        self._header[key] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": offsets}
        self.bytes += content.nbytes

    def close(self) -> None:
        head = json.dumps(self._header).encode()
        head += b" " * (-len(head) % 8)
        draft = self.path.with_name(f"{self.path.name}.draft")
        try:
            with draft.open("wb") as stream:
                stream.write(len(head).to_bytes(8, "little") + head)
                self._waiting.seek(0)
                shutil.copyfileobj(self._waiting, stream, 2**20)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(draft, self.path)
        except OSError as wrong:
            with suppress(OSError):
                draft.unlink()
            raise WriteFailed(cannot_write(self.path, wrong)) from wrong
        finally:
            self._waiting.close()


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Key -> array in its own dtype. UsageError, in one sentence, for a file that is not there or not whole."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise UsageError(f"'{path}' is missing: its rank has said that it wrote it.") from None
    except (SafetensorError, OSError) as wrong:
        raise UsageError(f"'{path}' is torn and cannot be read ({wrong}): capture the run again.") from None
    return {
        key: np.frombuffer(entry["data"], np.dtype(DTYPES[entry["dtype"]])).reshape(entry["shape"])
        for key, entry in entries
    }
