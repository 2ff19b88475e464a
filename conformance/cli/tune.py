"""`shardproof plan --tune MINUTES`: the best layouts of the cost model, measured on devices of this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from conformance.cases.usage import UsageError
from conformance.contract.mesh import MOST_DEVICES
from conformance.planner.asking import Asked, question
from conformance.planner.evidence import plan_file
from conformance.planner.search import predicted
from conformance.planner.tuning import Candidate, Tuned, tuned
from conformance.records.formatting import seconds
from conformance.records.recorder import RESULTS
from conformance.report.terminal import show_table

KEPT = RESULTS / "plan" / "tuning.jsonl"


def tune(asked: Asked, minutes: float, *, output: Path | None, as_json: bool) -> int:
    """The exit status is 1 where nothing fits, or nothing was measured in time."""
    wanted = question(asked)
    if not minutes > 0:
        raise UsageError(f"Tuning takes minutes: --tune is more than 0, not {minutes:g}.")
    if wanted.devices > MOST_DEVICES["jax"]:
        raise UsageError(f"At most {MOST_DEVICES['jax']} devices are emulated on one machine, not {wanted.devices}.")
    fitting = predicted(wanted)
    if not fitting:
        print("Nothing fits: `shardproof plan` without --tune says what would.", file=sys.stderr)
        return 1
    tuning = tuned(wanted, fitting, minutes, KEPT, lambda sentence: print(sentence, file=sys.stderr, flush=True))
    lines = _words(tuning)
    if as_json:
        print(json.dumps({"candidates": [_plain(each) for each in tuning.candidates], "words": lines}, indent=1))
    else:
        show_table(("layout", "predicted, on the chip", "measured here", "spread", "rounds"), _rows(tuning))
        print("\n" + "\n".join(lines))
    if tuning.measured and output is not None:
        kept = plan_file(wanted, tuning.measured[0].estimate, None, tuple(lines))
        output.write_text(kept.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return 0 if tuning.measured else 1


def _rows(tuning: Tuned) -> list[list[str]]:
    return [
        [
            str(each.estimate.layout),
            f"{1e3 * each.estimate.step_seconds:.3g} ms",
            seconds(each.seconds) if each.rounds else "not reached",
            seconds(each.spread) if len(each.rounds) > 1 else "",
            str(len(each.rounds)),
        ]
        for each in tuning.candidates
    ]


def _words(tuning: Tuned) -> list[str]:
    if not tuning.measured:
        return ["Nothing was measured in the time that was given."]
    best, untuned = tuning.measured[0], tuning.untuned
    lines = [f"Measured fastest here: {best.estimate.layout}, {seconds(best.seconds)} a step."]
    if len(tuning.measured) == 1:
        lines.append("It is the only one that was measured in time, so that nothing was compared: go on with --tune.")
    elif untuned.rounds:
        ratio = untuned.seconds / best.seconds
        lines.append(f"The layout that the cost model prefers takes {ratio:.2f} times as long here.")
    else:
        lines.append("The layout that the cost model prefers was not measured in time.")
    if tuning.noise_decides:
        lines.append("Noise decides: the best two are nearer to each other than their own rounds, or have one round.")
    lines.append(f"Every measurement is in {KEPT}, and counts the next time; devices are emulated on this machine.")
    return lines


def _plain(each: Candidate) -> dict[str, object]:
    return {"layout": str(each.estimate.layout), "rounds": each.rounds, "predicted": each.estimate.step_seconds}
