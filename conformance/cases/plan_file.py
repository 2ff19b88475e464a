"""A plan as a file: what is trained, on which layout, what was predicted of it and what the compiler said.

A file says what was planned, and no more: whoever changes it makes a plan of which nothing is known. So it is sealed by
a digest, and refused with the first thing that does not go together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.cases.plan import ScalePlan
from conformance.cases.plannable import Layout, ModelFamily, Training
from conformance.cases.suite import suites
from conformance.cases.usage import UsageError, choose
from conformance.contract.errors import ShardproofError
from conformance.contract.mesh import Mesh


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Predicted(_Part):
    """Of one device and one step; bytes of parameters, gradients and optimizer are exact.

    communication_seconds   axes, joined by `+` -> at the bandwidth of the slowest link that they use
    largest_all_reduce      bytes of one launch
    bubble_seconds          in which the stages of a pipeline wait for each other
    """

    parameter_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    batch_bytes: int
    temporary_bytes: int
    temporaries: dict[str, int]
    needed_bytes: int
    compute_seconds: float
    communication_seconds: dict[str, float]
    communication_bytes: dict[str, int]
    largest_all_reduce: int
    bubble_seconds: float = 0.0
    step_seconds: float


class Evidence(_Part):
    """What the compiled program needs and sends; at the level partitioned, temporaries are not known."""

    level: Literal["program", "partitioned", "target"]
    parameter_bytes: int
    optimizer_bytes: int
    temporary_bytes: int | None
    needed_bytes: int | None
    fits: bool | None
    compute_seconds: float | None
    communication_seconds: dict[str, float]
    communication_bytes: dict[str, int]
    largest_all_reduce: int
    findings: tuple[str, ...]


class PlanFile(_Part):
    """`shardproof plan --output` writes it; `scale`, `run`, `profile`, `report` and `plan --apply` take it.

    chip    the figures of a `conformance.targets.chip.Chip`, its memory as it was asked for
    schedule  of stages, where the mesh has a pipeline axis
    digest  of everything else
    """

    format: Literal[3] = 3
    asked: str
    family: str
    model: dict[str, Any]
    parameters: int
    parameters_dtype: Literal["float32", "bfloat16"]
    rows: int = Field(gt=0)
    length: int = Field(gt=0)
    devices: int = Field(gt=0)
    chip: dict[str, Any]
    objective: str
    max_all_reduce: int | None = None
    mesh: str
    microbatches: int = Field(gt=0)
    recompute: str
    schedule: str = ""
    proof: str
    predicted: Predicted
    evidence: Evidence | None = None
    why: tuple[str, ...] = ()
    digest: str = ""

    def sealed(self) -> PlanFile:
        return self.model_copy(update={"digest": self._digest()})

    def _digest(self) -> str:
        return hashlib.sha256(self.model_dump_json(exclude={"digest"}).encode()).hexdigest()

    @property
    def layout(self) -> Layout:
        return Layout(
            mesh=Mesh.parse(self.mesh),
            microbatches=self.microbatches,
            recompute=self.recompute,
            schedule=self.schedule,
        )

    @property
    def training(self) -> Training:
        """Raises UsageError where no installed suite has its family, or the family no such model."""
        try:
            model = family_named(self.family).read(self.model)
        except (TypeError, ValueError) as wrong:
            raise UsageError(
                f"The plan of {self.asked} describes no model of the family {self.family}: {wrong}"
            ) from None
        return Training(
            family=self.family, model=model, rows=self.rows, length=self.length, parameters=self.parameters_dtype
        )

    def scale_plan(self, name: str) -> ScalePlan:
        """What is compiled."""
        return family_named(self.family).plan(name, self.training, self.layout)


def families() -> dict[str, ModelFamily]:
    """The model families of all installed suites, by name."""
    return {family.name: family for suite in suites().values() for family in suite.families}


def family_named(name: str) -> ModelFamily:
    return families()[choose("model family", name, list(families()))]


def proofs(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of a command -> (those that are no plan files, the small cases of those that are)."""
    plans = [word for word in words if word.endswith(".json")]
    return [word for word in words if word not in plans], [read_plan(Path(word)).proof for word in plans]


def read_plan(path: Path) -> PlanFile:
    """Raises UsageError with one sentence where there is no such file, it is no plan, or it was changed."""
    if not path.is_file():
        raise UsageError(f"There is no plan file '{path}': `shardproof plan MODEL --output {path}` writes one.")
    try:
        plan = PlanFile.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as wrong:
        first = wrong.errors()[0] if isinstance(wrong, ValidationError) else {"loc": (), "msg": "not text"}
        where = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"'{path}' is no plan: {where}: {first['msg']}.") from None
    try:
        breach = next(_breaches(plan), "")
    except ShardproofError as wrong:
        breach = str(wrong).rstrip(".")
    if breach:
        raise UsageError(
            f"'{path}' does not hold together, so it was edited or is of another version: {breach}; make a new plan "
            "with `shardproof plan`."
        )
    return plan


def _breaches(plan: PlanFile) -> Iterator[str]:
    """What of a plan contradicts the rest of it; what is wrong by itself is raised."""
    family, training, layout = family_named(plan.family), plan.training, plan.layout
    if layout.mesh.devices != plan.devices:
        yield f"the mesh {layout.mesh} has {layout.mesh.devices:,} devices and the plan is for {plan.devices:,}"
    for axis in layout.mesh.axes:
        choose("axis", axis, family.axes)
    choose("recomputation", plan.recompute, family.recomputes)
    if layout.mesh.size("pipeline") > 1:
        choose("schedule", plan.schedule, family.schedules)
    if (number := family.parameters(training.model)) != plan.parameters:
        yield f"the model has {number:,} parameters and the plan speaks of {plan.parameters:,}"
    if why := family.refused(training, layout):
        yield f"{layout} cannot be: {why}"
    if why := family.uncompiled(training, layout):
        yield f"no program of {layout} is compiled: {why}"
    if plan.proof != (proof := family.plan("proof", training, layout).proof):
        yield f"its program is proven by {proof}, not by {plan.proof}"
    footprint, said = family.footprint(training, layout), plan.predicted
    for what in ("parameter_bytes", "gradient_bytes", "optimizer_bytes"):
        if getattr(footprint, what) != getattr(said, what):
            yield f"{what} of this layout are {getattr(footprint, what):,}, not {getattr(said, what):,}"
    if plan.sealed() != plan:
        yield "its digest is not that of the rest"
