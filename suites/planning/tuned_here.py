"""`python -m suites.planning.tuned_here FOLDER MINUTES`: is what tuning chooses faster than what the model prefers?

Tuning chooses by its own measurements, so that its choice looks faster than it is. Behind it both layouts are measured
again, in turn, and the ratio of each pair is published. Rounds are kept in FOLDER and count the next time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from conformance.planner.asking import Asked, question
from conformance.planner.question import Question
from conformance.planner.search import predicted
from conformance.planner.tuning import SECONDS, Candidate, Tuned, measured, tuned

ASKED = Asked(model="55M", devices=4, rows=16, length=64)
PAIRS = 5
Pair = tuple[float, float]  # seconds of a step: of what the cost model prefers, of what was measured fastest


def main(folder: Path, minutes: float) -> int:
    """The exit status is 1 where tuning has nothing to compare."""
    wanted = question(ASKED)
    folder.mkdir(parents=True, exist_ok=True)
    tuning = tuned(wanted, predicted(wanted), minutes, folder / "tuning.jsonl", _progress)
    if len(tuning.measured) < 2 or not tuning.untuned.rounds:
        print("Too little was measured in time: run it again, and it goes on.", file=sys.stderr)
        return 1
    pairs = list(_pairs(wanted, tuning)) if tuning.measured[0] is not tuning.untuned else []
    (folder / "tuned.json").write_text(json.dumps(pairs) + "\n", encoding="utf-8")
    (folder / "tuned.md").write_text("\n".join(page(tuning, pairs)) + "\n", encoding="utf-8")
    return 0


def _pairs(wanted: Question, tuning: Tuned) -> Iterator[Pair]:
    """Both, one after the other, which of them first in turn."""
    both = [tuning.untuned.estimate, tuning.measured[0].estimate]
    for number in range(PAIRS):
        _progress(f"measuring both again, {number + 1} of {PAIRS}")
        seconds = {}
        for place in (0, 1) if number % 2 else (1, 0):
            steps = measured(wanted, both[place], SECONDS)
            if steps is None:
                return
            seconds[place] = median(steps)
        yield seconds[0], seconds[1]


def page(tuning: Tuned, pairs: Sequence[Pair]) -> Iterator[str]:
    """The table of what was tuned, and the ratio."""
    yield "# Tuned against untuned\n"
    asked = f"{ASKED.model} --devices {ASKED.devices} --rows {ASKED.rows} --length {ASKED.length}"
    yield f"Made by `python -m suites.planning.tuned_here results/planning 10`: `shardproof plan {asked} --tune 10`,"
    yield "and behind it what the cost model prefers and what was measured fastest, again and in turn. Seconds are of"
    yield "emulated devices that share the cores of one machine, and mean nothing on another.\n"
    yield f"* {ratio(tuning, pairs)}"
    yield f"* Among the candidates themselves noise {'decides' if tuning.noise_decides else 'does not decide'}.\n"
    yield "| layout | place by the cost model | seconds of a step | spread | rounds |"
    yield "| --- | --- | --- | --- | --- |"
    for each in tuning.measured:
        yield _row(each, 1 + tuning.candidates.index(each))


def ratio(tuning: Tuned, pairs: Sequence[Pair]) -> str:
    """One sentence: how many times as long the untuned choice takes, and whether that is more than noise."""
    if not pairs:
        return f"What the cost model prefers, {tuning.untuned.estimate.layout}, is what was measured fastest: ratio 1."
    ratios = sorted(untuned / tuned for untuned, tuned in pairs)
    is_clear = ratios[0] > 1 or ratios[-1] < 1
    return (
        f"The layout that the cost model prefers takes {median(ratios):.2f} times as long as the one that tuning chose "
        f"({tuning.measured[0].estimate.layout}), in {len(ratios)} pairs of rounds {ratios[0]:.2f} to {ratios[-1]:.2f}"
        f"{'' if is_clear else ': noise decides'}."
    )


def _row(each: Candidate, place: int) -> str:
    spread = f"{each.spread:.3g}" if len(each.rounds) > 1 else ""
    return f"| {each.estimate.layout} | {place} | {each.seconds:.3g} | {spread} | {len(each.rounds)} |"


def _progress(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2])))
