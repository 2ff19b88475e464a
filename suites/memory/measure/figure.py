"""One figure: bytes per device of one kind, read from one program at one level."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Bytes are those of the device that holds most.

    group    what is compared: `checkpointing`, `spill`, `donation`, `accumulation`, `axes`
    policy   what differs within the group
    shape    `small` (it is run) or `wide` (batch 32, sequence 512, hidden 1024, 16 heads: it is not)
    kind     `saved residuals` (what a forward pass leaves for its backward pass), `moved to host`, `argument`,
             `output`, `alias` (both at once) or `temporaries` of a compiled program
    level    `program` (as traced or dispatched), `partitioned` (per device, exact on any platform) or
             `cpu, under scan` (temporaries of the CPU's own program, of loops alone)
    seconds  of CPU time, of the shortest of several steps; None where nothing was run
    """

    group: str
    policy: str
    framework: str
    mesh: str
    shape: str
    kind: str
    level: str
    bytes: int
    seconds: float | None = None

    def record(self) -> dict[str, Any]:
        return asdict(self)
