"""From the words of a command to a question: sizes with units, a named plan or a size, a chip and its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from conformance.cases.plan_file import families
from conformance.cases.plannable import ModelFamily, Sized, Training
from conformance.cases.plans import plans
from conformance.cases.usage import UsageError, choose
from conformance.planner import units
from conformance.planner.question import OBJECTIVES, Question
from conformance.targets.chip import chip_named

PARAMETERS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """As it was typed; None is what the shape or the chip says, rows filled up to a multiple of the devices."""

    model: str
    devices: int
    memory: str | None = None
    chip: str = "h100"
    objective: str = "throughput"
    max_all_reduce: str | None = None
    search: Sequence[str] = ()
    rows: int | None = None
    length: int | None = None
    parameters: str = "float32"


def question(asked: Asked) -> Question:
    """Raises UsageError or ChipError with one sentence."""
    family, shape = _model(asked.model)
    if asked.devices < 1:
        raise UsageError(f"A plan needs at least one device, not {asked.devices}.")
    if any(number is not None and number < 1 for number in (asked.rows, asked.length)):
        raise UsageError("A batch has at least one row of at least one token: --rows and --length are at least 1.")
    chip = chip_named(asked.chip)
    if asked.memory is not None:
        chip = chip.model_copy(update={"memory_bytes": units.size(asked.memory)})
    training = _training(asked, family, shape)
    return Question(
        asked=asked.model,
        source=shape.source,
        training=training,
        devices=asked.devices,
        chip=chip,
        objective=choose("objective", asked.objective, OBJECTIVES),
        axes=_axes(family, asked.search),
        max_all_reduce=units.size(asked.max_all_reduce) if asked.max_all_reduce is not None else None,
    )


def _training(asked: Asked, family: ModelFamily, shape: Sized) -> Training:
    return Training(
        family=family.name,
        model=shape.model,
        rows=asked.rows or asked.devices * -(-shape.rows // asked.devices),  # so that every device has as many
        length=asked.length or shape.length,
        parameters=choose("dtype of parameters", asked.parameters, PARAMETERS),
    )


def _axes(family: ModelFamily, named: Sequence[str]) -> tuple[str, ...]:
    for axis in named:
        if axis in family.not_searched:
            raise UsageError(f"No plan is searched over {axis}: {family.not_searched[axis]}.")
        choose("axis", axis, family.axes)
    return tuple(axis for axis in family.axes if axis in named or not named)


def _model(text: str) -> tuple[ModelFamily, Sized]:
    """A named plan, a model that a family knows by name, or a size with a unit."""
    known = families()
    for family in known.values():
        if text in family.named:
            return family, family.named[text]
    named = plans().get(text)
    if named is None:
        usual = next(iter(known.values()))
        return usual, usual.sized(units.parameters(text))
    model, (rows, length) = named.contract.model, named.contract.batch_shapes["mask"]
    family = next(family for family in known.values() if family.has(model))
    source = f"the plan {text}: {named.summary}"
    return family, Sized(model=model, parameters=family.parameters(model), rows=rows, length=length, source=source)
