"""The writer of one process: tensors of a moment into its file, and the record of the process after each moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.capture.files import TensorFile
from conformance.capture.records import BlockRecord, CostRecord, MomentRecord, RankRecord, Runs, TensorRecord, name


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one device holds of a tensor: its position on the mesh, and the rest as in `BlockRecord`."""

    position: int
    shape: tuple[int, ...]
    content: memoryview
    index: list[Runs] | None = None
    partial: tuple[str, ...] = ()


class Writer:
    """Writes what one process hands over; what an earlier run of the same process left there is removed first."""

    def __init__(self, folder: Path, record: RankRecord) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob(f"{name(record.process)}.*"):
            old.unlink()
        self.folder, self.record = folder, record
        self._file: TensorFile | None = None
        self._moment = ""
        self._tensors: dict[str, TensorRecord] = {}
        self._again: Counter[str] = Counter()
        self._busy = 0.0
        self._since = time.perf_counter()
        record.write(folder)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """What is done inside is a cost of the capture."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._busy += time.perf_counter() - started

    def open(self, moment: str) -> None:
        """Begin a moment; what follows belongs to it."""
        self._moment, self._tensors, self._again = moment, {}, Counter()
        self._file = TensorFile(self.folder / f"{name(self.record.process)}.{moment.replace(' ', '-')}.safetensors")
        self._busy, self._since = 0.0, time.perf_counter()

    def add(self, tensor: str, dtype: str, shape: tuple[int, ...], parts: Sequence[Part], **said: Any) -> None:
        """One tensor by what each device of this process holds of it; `said` are further fields of its record."""
        assert self._file is not None
        name = tensor if tensor not in self._tensors else f"{tensor}#{self._again[tensor]}"
        self._again[tensor] += 1
        blocks = []
        for part in parts:
            key = name if len(parts) == 1 else f"{name}@{part.position}"
            self._file.add(key, dtype, part.shape, part.content)
            blocks.append(BlockRecord(key=key, position=part.position, index=part.index, partial=part.partial))
        self._tensors[name] = TensorRecord(shape=shape, dtype=dtype, blocks=tuple(blocks), **said)

    def has(self, tensor: str) -> bool:
        """Whether the moment has it already."""
        return tensor in self._tensors

    def narrow(self) -> dict[str, str]:
        """Tensors of the moment that are real and narrower than float64, and their dtypes."""
        return {name: x.dtype for name, x in self._tensors.items() if "float" in x.dtype and x.dtype != "float64"}

    def close(self, **changed: object) -> None:
        """End a moment: it is on disk, and the record says so; `changed` are fields of the record."""
        assert self._file is not None
        with self.busy():
            self._file.close()
        moment = MomentRecord(
            moment=self._moment, file=self._file.path.name, bytes=self._file.bytes, tensors=self._tensors
        )
        self._file = None
        cost = self.record.cost
        if moment.moment != "start":
            spent = time.perf_counter() - self._since
            cost = CostRecord(steps=cost.steps + spent, capture=cost.capture + self._busy)
        self.update(moments=(*self.record.moments, moment), cost=cost, **changed)

    def update(self, **changed: object) -> None:
        self.record = self.record.model_copy(update=changed)
        self.record.write(self.folder)

    def said(self) -> str:
        """What was captured and what it cost, in one sentence."""
        from conformance.records.formatting import binary_bytes, count, seconds

        steps = max(len(self.record.moments) - 1, 0)
        size = sum(moment.bytes for moment in self.record.moments)
        cost = self.record.cost
        if not steps:
            return f"Captured no step into {self.folder}: {self._why()}."
        plain = max(cost.steps - cost.capture, 1e-9)
        return (
            f"Captured {count(steps, 'step')} into {self.folder}, {binary_bytes(size)} on this rank. A step took "
            f"{seconds(plain / steps)} and its capture {seconds(cost.capture / steps)} "
            f"({cost.steps / plain:.2f} times the step)."
        )

    def _why(self) -> str:
        """Of a capture without a step: what ended it, or which call has never come."""
        if not self.record.finished:
            return "the trainer broke off before its first step was over"
        return "`seen.step` was not called" if self.record.framework == "jax" else "the optimizer has not stepped"
