"""What would fit where nothing does: more memory, more devices, or parameters that lie in bfloat16; each compiled."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from conformance.planner.evidence import Compiler
from conformance.planner.question import MARGIN, Question
from conformance.planner.search import Progress, Search, footprint_of, in_memory, is_modelled, search
from conformance.planner.space import layouts_of
from conformance.records.formatting import binary_bytes, count

MOST_SEARCHED = 24  # numbers of devices
ROUNDED = 2**28  # memory is asked for in steps of 256 MiB


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A changed question that has an answer."""

    sentence: str
    search: Search


def remedies(failed: Search, compiler: Compiler, on_progress: Progress) -> Iterator[Remedy]:
    """What would help, one change at a time."""
    question = failed.question
    if failed.frugal:
        yield from _found(_more_memory(failed), "{memory} for each of {devices}", compiler, on_progress)
    yield from _found(_more_devices(question), "{devices} of {memory}", compiler, on_progress)
    if question.training.parameters == "float32":
        narrow = replace(question, training=replace(question.training, parameters="bfloat16"))
        if _fits(narrow):
            words = "parameters and gradients that lie in bfloat16 alone (--parameters bfloat16), which rounds updates"
            yield from _found(narrow, words, compiler, on_progress)


def _found(question: Question | None, words: str, compiler: Compiler, on_progress: Progress) -> Iterator[Remedy]:
    if question is None:
        return
    searched = search(question, compiler, on_progress)
    if searched.chosen is not None:
        spoken = words.format(
            memory=binary_bytes(question.chip.memory_bytes), devices=count(question.devices, "device")
        )
        yield Remedy(sentence=f"{spoken}: {searched.chosen.estimate.layout}", search=searched)


def _more_memory(failed: Search) -> Question:
    """The least that any layout needs as compiled, with the margin, or is predicted to need where none was."""
    compiled = [tried.evidence.needed_bytes for tried in failed.tried if tried.evidence.needed_bytes]
    needed = min(compiled, default=failed.frugal[0].footprint.needed_bytes)
    memory = ROUNDED * math.ceil(needed * 1.05 / (1 - MARGIN) / ROUNDED)
    question = failed.question
    return replace(question, chip=question.chip.model_copy(update={"memory_bytes": memory}), max_all_reduce=None)


def _more_devices(question: Question) -> Question | None:
    """The fewest devices, in whole nodes, on which something is predicted to fit."""
    node = question.chip.devices_per_node
    for step in range(1, MOST_SEARCHED + 1):
        devices = (question.devices // node + step) * node if question.devices >= node else question.devices + step
        more = replace(question, devices=devices)
        if _fits(more):
            return more
    return None


def _fits(question: Question) -> bool:
    """Whether something fits that can be compiled."""
    layouts = (layout for layout in layouts_of(question) if not is_modelled(question, layout))
    return any(in_memory(question, footprint_of(question, layout)) for layout in layouts)
