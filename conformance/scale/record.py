"""The figures of one compiled plan, as they are written and read; bytes are per device, and of the busiest one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from conformance.contract.implementation import Phase
from conformance.traffic.collective_op import Level


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorBytes(_Record):
    """An argument of the step: its bytes on one device, and how many devices hold the same of it, axis by axis."""

    name: str
    kind: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    replicated_over: tuple[str, ...]


class Collective(_Record):
    """Collectives of one kind over one set of axes for one tensor, in one step.

    tensor    the parameter that is gathered or whose gradient is summed; empty for activations, and at the level target
    launches  how often the operation is started
    whole     the groups take in every rank along the axes
    """

    level: Level
    phase: Phase | None
    kind: str
    axes: tuple[str, ...]
    dtype: str
    tensor: str
    where: str
    launches: int
    payload_bytes: int
    wire_bytes: int
    whole: bool


class Finding(_Record):
    """What is wrong: one sentence, with the tensor and the axes that it is about."""

    check: Literal["communication", "memory", "precision", "conformance"]
    sentence: str
    tensor: str = ""
    axes: tuple[str, ...] = ()
    bytes: int = 0


class Roofline(_Record):
    """Lower bounds of one step, in seconds: no step is faster than its slowest part.

    compute        matrix products at the chip's peak
    communication  axes, joined by `+` -> bytes on the wire at the bandwidth of the slowest link that they use
    """

    compute_seconds: float
    communication_seconds: dict[str, float]
    tokens: int

    @property
    def step_seconds(self) -> float:
        return max([self.compute_seconds, *self.communication_seconds.values()])


class StageBytes(_Record):
    """One rank of a pipeline: bytes and operations of one of its devices in a step.

    ranks               that it stands for: their programs are the same, or need no more
    sent_bytes          on the wire between its own devices; `message_bytes` to the ranks beside it
    largest_all_reduce  bytes of one launch
    """

    rank: int
    ranks: int
    layers: int
    parameter_bytes: int
    optimizer_bytes: int
    temporary_bytes: int | None
    needed_bytes: int | None
    flops: dict[str, int]
    sent_bytes: int
    message_bytes: int
    messages: int
    largest_all_reduce: int = 0


def busiest_sender(stages: Sequence[StageBytes]) -> StageBytes:
    """The rank whose devices send most, messages included; of equals the first."""
    return max(stages, key=lambda stage: stage.sent_bytes + stage.message_bytes)


class ScaleRecord(_Record):
    """One plan on one mesh for one chip.

    held_bytes    kind -> bytes on one device: parameters, optimizer slots, batch
    needed_bytes  arguments, outputs that lie elsewhere, and temporaries; None where temporaries are not known
    margin        share of the chip's memory that is left to its libraries
    not_compiled  why the level target is missing; empty where it is there
    flops         dtype -> floating-point operations of matrix products on one device
    rank          the only one that was looked at; None where the compiled program is that of all
    gradient_bytes of all gradients behind the backward pass, a part of the temporaries; None where not told apart
    kept_bytes    that live beside the arguments when the backward pass begins; None where that is not told apart
    operations    that one device carries out, fused ones as one; None where they were not counted
    notes         what the figures are not, a sentence each
    stages        of a pipeline: every program that was compiled; memory and operations above are those of the rank
                  that needs most, collectives those of the rank that sends most, times those of the slowest one
    """

    plan: str
    summary: str
    framework: str = "jax"
    rank: int | None = None
    gradient_bytes: int | None = None
    kept_bytes: int | None = None
    operations: int | None = None
    notes: tuple[str, ...] = ()
    stages: tuple[StageBytes, ...] = ()
    mesh: str
    devices: int
    chip: str | None
    parameters: int
    level: Level
    not_compiled: str
    held_bytes: dict[str, int]
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    temporary_bytes: int | None
    needed_bytes: int | None
    capacity_bytes: int | None
    margin: float
    largest: tuple[TensorBytes, ...]
    collectives: tuple[Collective, ...]
    flops: dict[str, int]
    roofline: Roofline | None
    findings: tuple[Finding, ...]
    proof: str
    proof_verdict: str
    cpu_seconds: float
    peak_rss_bytes: int

    @property
    def parameter_bytes(self) -> int:
        return self.held_bytes["parameters"]

    @property
    def optimizer_bytes(self) -> int:
        """Of all slots."""
        return sum(size for kind, size in self.held_bytes.items() if kind.startswith("optimizer/"))

    def wire_bytes(self) -> dict[str, int]:
        """Axes, joined by `+` -> bytes that a device sends, at the level nearest to the chip."""
        sent = Counter[str]()
        for each in self.collectives:
            if each.level == self.level:
                sent["+".join(each.axes)] += each.wire_bytes
        return dict(sent)

    @property
    def largest_all_reduce(self) -> int:
        """Bytes of one launch as the program has it, before a chip combines them; of a pipeline on any rank."""
        own = (
            each.payload_bytes // each.launches
            for each in self.collectives
            if each.level != "target" and each.kind == "all_reduce"
        )
        return max((*own, *(stage.largest_all_reduce for stage in self.stages)), default=0)

    @property
    def fits(self) -> bool | None:
        """None where it is not known."""
        if self.needed_bytes is None or self.capacity_bytes is None:
            return None
        return self.needed_bytes <= self.capacity_bytes * (1 - self.margin)
