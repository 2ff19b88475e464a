"""Laws that the plans of any planner keep, ours or anybody's: `plan(model, devices, memory) -> {axis: size}`.

`model` and `memory` are texts with units, as '175B' and '80GiB'; the answer may say `microbatches` and `recompute` too,
and is None where nothing fits. A planner that raises for a question has not answered it. What a plan does not say is
taken to be the best that keeps the limits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from conformance.planner.answers import Answer, Case, answered, best, read_answer
from conformance.records.formatting import binary_bytes, seconds

Planner = Callable[[str, int, str], Mapping[str, Any] | None]

CASES = (  # sizes, devices and memory; counts of devices that 4, and 2, do not divide
    Case(model="1.3B", devices=6, memory="80GiB"),
    Case(model="1.3B", devices=7, memory="80GiB"),
    Case(model="7B", devices=8, memory="80GiB"),
    Case(model="7B", devices=10, memory="80GiB"),
    Case(model="13B", devices=16, memory="80GiB"),
    Case(model="175B", devices=64, memory="80GiB"),
)
TIGHT = (Case(model="175B", devices=64, memory="40GB"), Case(model="7B", devices=1, memory="16GB"))
SAME_UNITS = (("175B", "175000M"), ("7B", "7e9"))
SAME_MEMORY = ("80GiB", f"{80 * 2**30}B")
SLOWER = 1.01  # a plan that is slower by less is no slower


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One law over all its questions: how many it looked at, and each breach in a sentence."""

    law: str
    statement: str
    compared: int
    breaches: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Nothing compared is a failure."""
        return "pass" if self.compared and not self.breaches else "fail"


@dataclass(frozen=True, kw_only=True)
class Law:
    """`breaches` yields a sentence for each breach, and an empty one for each question that keeps the law.

    asks_again   a question may be asked twice, so that no answer is remembered
    """

    name: str
    statement: str
    breaches: Callable[[Planner], Iterator[str]]
    asks_again: bool = False


def judge(planner: Planner) -> tuple[Judged, ...]:
    """Every law, over all its questions."""
    remembered = cache(planner)  # several laws ask the same
    return tuple(_judged(law, planner if law.asks_again else remembered) for law in LAWS)


def _judged(law: Law, planner: Planner) -> Judged:
    said = list(law.breaches(planner))
    breaches = tuple(sentence for sentence in said if sentence)
    return Judged(law=law.name, statement=law.statement, compared=len(said), breaches=breaches)


def _answers(planner: Planner) -> Iterator[tuple[Case, Answer]]:
    for case in CASES:
        answer = answered(planner, case)
        if answer is not None:
            yield case, answer


def devices(planner: Planner) -> Iterator[str]:
    for case, answer in _answers(planner):
        product = math.prod(answer.sizes.values())
        lost = f"{product} of {case.devices} devices are used: {answer}"
        yield "" if product == case.devices else f"{case}: {lost}."


def answers(planner: Planner) -> Iterator[str]:
    """Every one of the questions has a plan."""
    for case in CASES:
        missing = answered(planner, case) is None
        yield f"{case}: no plan, though {best(case)} fits." if missing else ""


def fits(planner: Planner) -> Iterator[str]:
    for case in (*CASES, *TIGHT):
        answer = answered(planner, case)
        if answer is None:
            if case in TIGHT:
                yield ""
            continue
        needed = answer.needed_bytes(case)
        if needed is not None:
            usable = case.question.usable_bytes
            over = f"{answer} needs {binary_bytes(needed)} of {binary_bytes(usable)} at the least"
            yield "" if needed <= usable else f"{case}: {over}."


def divisibility(planner: Planner) -> Iterator[str]:
    for case, answer in _answers(planner):
        why = answer.refused(case)
        yield f"{case}: {answer}: {why}." if why else ""


def dead_axes(planner: Planner) -> Iterator[str]:
    for case, answer in _answers(planner):
        dead = answer.dead_axes(case)
        yield f"{case}: {' and '.join(dead)} of {answer} would divide nothing." if dead else ""


def memory_helps(planner: Planner) -> Iterator[str]:
    for case in CASES:
        pair = [(c, answered(planner, c)) for c in (case, case.with_memory("160GiB"))]
        times = [answer.step_seconds(c) if answer else None for c, answer in pair]
        if times[0] is not None and (times[1] is None or times[1] > SLOWER * times[0]):
            slower = "none" if times[1] is None else f"one of {seconds(times[1])}"
            yield f"{case}: a plan of {seconds(times[0])} a step, and with 160GiB {slower}."
        elif times[0] is not None:
            yield ""


def devices_help(planner: Planner) -> Iterator[str]:
    for case, answer in _answers(planner):
        needed = answer.needed_bytes(case)
        if needed is None or needed > case.question.usable_bytes:
            continue
        more = case.with_devices(2 * case.devices)
        larger = answered(planner, more)
        grown = larger.least_bytes(more) if larger else None
        least = answer.least_bytes(case)
        if grown is None or least is None or grown > least:
            needs = "cannot be laid out" if grown is None else f"needs {binary_bytes(grown)}"
            took = "there is no plan" if larger is None else f"{larger} {needs}"
            yield f"{case}: {answer} needs {binary_bytes(least or needed)}; on {more.devices} devices {took}."
        else:
            yield ""


def units(planner: Planner) -> Iterator[str]:
    for first, second in SAME_UNITS:
        pair = [answered(planner, Case(model=model, devices=64, memory="80GiB")) for model in (first, second)]
        yield "" if pair[0] == pair[1] else f"{first} gives {pair[0]}, and {second}, the same, {pair[1]}."
    pair = [answered(planner, Case(model="7B", devices=8, memory=memory)) for memory in SAME_MEMORY]
    yield "" if pair[0] == pair[1] else f"{SAME_MEMORY[0]} gives {pair[0]}, and {SAME_MEMORY[1]}, the same, {pair[1]}."
    try:
        answer = read_answer(planner("175", 64, "80GiB"))
    except Exception:
        answer = None
    yield f"'175' is taken for a size and gives {answer}: it could be parameters or billions." if answer else ""


def steady(planner: Planner) -> Iterator[str]:
    for case in CASES[:2]:
        first, again = (answered(planner, case) for _ in range(2))
        yield "" if first == again else f"{case}: {first} when asked first, {again} when asked again."


LAWS = (
    Law(name="devices", statement="the product of all axes is the number of devices", breaches=devices),
    Law(name="answers", statement="where a plan fits, there is an answer", breaches=answers),
    Law(name="fits", statement="no plan needs more than a device has", breaches=fits),
    Law(
        name="divisibility", statement="heads, features, tokens and rows divide over their axes", breaches=divisibility
    ),
    Law(name="dead axes", statement="every axis divides something", breaches=dead_axes),
    Law(name="memory helps", statement="more memory never gives a slower plan", breaches=memory_helps),
    Law(name="devices help", statement="more devices never need more of each", breaches=devices_help),
    Law(name="units", statement="a size is the same in all units, and '175' is refused", breaches=units),
    Law(name="steady", statement="the same question has the same answer", breaches=steady, asks_again=True),
)
