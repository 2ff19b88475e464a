"""Series of a standing case: its step, and its bytes. Each is judged and measured once, when a series first asks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from .kept import kept

VERSION = "2"
NOT_KNOWN = float("nan")
LEVELS = ["program", "partitioned", "target"]
SEVERAL, MEMORY = "several axes", "memory"


class Shared(ABC):
    """asv runs every series and parameter in a process of its own. It leaves out what is abstract."""

    timeout = 900

    @property
    @abstractmethod
    def params(self) -> tuple[list[str], ...]:
        """What is measured one by one, in the order of `param_names`; an attribute of the class."""

    def setup_cache(self) -> None:  # noqa: B027 - asv makes a folder where there is one
        """Makes the folder in which asv then runs all of these: what was measured once is kept there."""


class Series(Shared):
    """One contract on one mesh, a parameter for each implementation."""

    contract: ClassVar[str]
    mesh: ClassVar[str]
    devices: ClassVar[str] = "emulated"

    def case(self, implementation: str, dtype: str) -> tuple[str, ...]:
        return (self.contract, implementation, self.mesh, dtype, self.devices)


class Step(Series):
    """Figures of one step; its parameters are implementations and dtypes."""

    param_names = ("implementation", "dtype")

    def setup(self, implementation: str, dtype: str) -> None:
        self.figures = kept("measured", self.case(implementation, dtype))

    def track_seconds_per_token(self, implementation: str, dtype: str) -> float:
        return self.figures["seconds_per_token"]

    def track_lost_efficiency(self, implementation: str, dtype: str) -> float:
        """1 - efficiency against the same program on one device, for JAX in the same process."""
        return self.figures["lost_efficiency"]

    def track_error_over_bound(self, implementation: str, dtype: str) -> float:
        return self.figures["error_over_bound"]

    def track_state_bytes(self, implementation: str, dtype: str) -> float:
        """Of parameters and optimizer, on the device that holds most."""
        return self.figures["program/memory"]

    def track_sent_bytes(self, implementation: str, dtype: str) -> float:
        """By the device that sends most, as the program itself says; not a number where the partitioner decides."""
        return self.figures["sent_bytes"]

    def track_overhead(self, implementation: str, dtype: str) -> float:
        """Share of the time of the case that the harness takes."""
        return self.figures["overhead"]


class PipelinedStep(Step):
    def track_bubble(self, implementation: str, dtype: str) -> float:
        """Idle share of the ranks in the schedule that is run."""
        return self.figures["bubble"]


class Bytes(Series):
    """What a device of a JAX program holds (`memory`) and sends (along each axis) at each level.

    Memory is the state at the level program, and arguments, results and temporaries at the others. Not a number where
    the partitioner decides what is sent (level program), and where no chip can be compiled for (level target).
    """

    param_names = ("implementation", "level", "what")
    dtype: ClassVar[str] = "float32"

    def setup(self, implementation: str, level: str, what: str) -> None:
        case = self.case(implementation, self.dtype)
        self.figures = kept("measured", case)
        if level != "program":
            self.figures = kept("compiled", case)

    def track_bytes(self, implementation: str, level: str, what: str) -> float:
        return self.figures.get(f"{level}/{what}", NOT_KNOWN)


def bytes_of(implementations: list[str], mesh: str) -> tuple[list[str], list[str], list[str]]:
    """The parameters of a `Bytes`."""
    axes = [axis.partition("=")[0] for axis in mesh.split(",")]
    return implementations, LEVELS, [MEMORY, *axes, *([SEVERAL] if len(axes) > 1 else [])]


def tracked(owner: type, name: str, unit: str) -> None:
    function = getattr(owner, f"track_{name}")
    function.unit, function.version = unit, VERSION


tracked(Step, "seconds_per_token", "seconds/token")
tracked(Step, "lost_efficiency", "1 - efficiency")
tracked(Step, "error_over_bound", "error/bound")
tracked(Step, "state_bytes", "bytes")
tracked(Step, "sent_bytes", "bytes")
tracked(Step, "overhead", "share")
tracked(PipelinedStep, "bubble", "share")
tracked(Bytes, "bytes", "bytes")
