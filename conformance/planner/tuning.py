"""Tuning: the layouts that the cost model likes best, measured in turn until the time is up; every measurement is kept.

A round measures each candidate once, so that a machine that slows down slows all of them. What decides is the median
of a candidate's rounds; where the best two differ by less than their own spread, noise decides, and that is said.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from pydantic import BaseModel, ConfigDict

from conformance.planner.estimate import Estimate
from conformance.planner.evidence import plan_file
from conformance.planner.question import Question
from conformance.records.environment import content_hash
from conformance.runner.steps import steps_here

STEPS = 5
MOST_CANDIDATES = 6
SECONDS = 900.0


class Measurement(BaseModel):
    """One round of one layout: seconds of its steps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    question: str
    layout: str
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A layout and all that was measured of it, in rounds of some steps."""

    estimate: Estimate
    rounds: tuple[float, ...]

    @property
    def seconds(self) -> float:
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Half of what lies between the slowest and the fastest round."""
        return (max(self.rounds) - min(self.rounds)) / 2


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Candidates in the order of the cost model; those that were not reached in time have no rounds."""

    candidates: tuple[Candidate, ...]

    @property
    def measured(self) -> list[Candidate]:
        return sorted((each for each in self.candidates if each.rounds), key=lambda each: each.seconds)

    @property
    def untuned(self) -> Candidate:
        """What the cost model would have taken."""
        return self.candidates[0]

    @property
    def noise_decides(self) -> bool:
        """Whether the best two are nearer to each other than their rounds are; one round alone shows no spread."""
        first, *others = self.measured
        if not others:
            return False
        unknown = min(len(first.rounds), len(others[0].rounds)) < 2
        return unknown or others[0].seconds - first.seconds <= max(first.spread, others[0].spread)


def tuned(
    question: Question, fitting: Sequence[Estimate], minutes: float, kept: Path, on_progress: Callable[[str], None]
) -> Tuned:
    """Measure until the time is up; what `kept` holds of the same question counts, and is not lost."""
    candidates = list(_candidates(fitting))
    name = _name(question)
    until = time.monotonic() + 60 * minutes
    done = _read(kept, name)
    while time.monotonic() < until:
        each = min(candidates, key=lambda each: len(done.get(str(each.layout), ())))
        on_progress(f"measuring {each.layout}, round {len(done.get(str(each.layout), ())) + 1}")
        seconds = measured(question, each, until - time.monotonic())
        if seconds is None:
            break
        kept.parent.mkdir(parents=True, exist_ok=True)
        measurement = Measurement(question=name, layout=str(each.layout), seconds=seconds)
        with kept.open("a", encoding="utf-8") as file:
            file.write(measurement.model_dump_json() + "\n")
        done.setdefault(str(each.layout), []).append(median(seconds))
    rounds = {layout: tuple(values) for layout, values in done.items()}
    return Tuned(candidates=tuple(Candidate(estimate=e, rounds=rounds.get(str(e.layout), ())) for e in candidates))


def _candidates(fitting: Sequence[Estimate]) -> Iterator[Estimate]:
    """The best layout of each mesh."""
    seen: set[str] = set()
    for each in fitting:
        if str(each.layout.mesh) not in seen and len(seen) < MOST_CANDIDATES:
            seen.add(str(each.layout.mesh))
            yield each


def _name(question: Question) -> str:
    """What a measurement is of: the training, a kind of machine, and the version of the program."""
    training, machine = question.training, f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    what = f"{question.asked} {training.rows}x{training.length} {training.parameters} {question.devices}"
    return f"{what} on {machine} {content_hash()[:12]}"


def _read(kept: Path, name: str) -> dict[str, list[float]]:
    """Medians of all rounds of a question, by layout; a line that an interruption cut off is no round."""
    text = kept.read_text(encoding="utf-8") if kept.is_file() else ""
    if text and not text.endswith("\n"):
        text = text[: text.rfind("\n") + 1]
        kept.write_text(text, encoding="utf-8")
    done: dict[str, list[float]] = {}
    for line in text.splitlines():
        each = Measurement.model_validate_json(line)
        if each.question == name:
            done.setdefault(each.layout, []).append(median(each.seconds))
    return done


def measured(question: Question, each: Estimate, seconds: float) -> tuple[float, ...] | None:
    """Seconds of some steps, in a process of its own; None where they took longer than they may."""
    with tempfile.TemporaryDirectory(prefix="shardproof-tune-") as folder:
        path = Path(folder) / f"{each.layout}.json"
        path.write_text(plan_file(question, each).model_dump_json(), encoding="utf-8")
        return steps_here(path, STEPS, max(1.0, min(SECONDS, seconds)))
