"""`shardproof plan`: a layout for a model on devices, why it was chosen, and the compiled program as evidence."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from conformance.planner.asking import Asked, question
from conformance.planner.evidence import compile_layout, plan_file
from conformance.planner.explanation import runners_up, words
from conformance.planner.question import Question
from conformance.planner.remedies import Remedy, remedies
from conformance.planner.search import Search, search
from conformance.planner.tables import axes, memory, ranking
from conformance.records.formatting import binary_bytes, count
from conformance.report.terminal import show_table


def plan(asked: Asked, *, output: Path | None, as_json: bool) -> int:
    """The exit status is 1 where nothing fits."""
    wanted = question(asked)
    searched = search(wanted, compile_layout, _progress)
    helps = [] if searched.chosen else list(remedies(searched, compile_layout, _progress))
    if as_json:
        print(json.dumps(_plain(searched, helps), indent=1))
    else:
        _show(searched, helps)
    if searched.chosen is None:
        return 1
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        kept = plan_file(wanted, searched.chosen.estimate, searched.chosen.evidence, tuple(words(searched)))
        output.write_text(kept.model_dump_json(indent=1) + "\n", encoding="utf-8")
        print(f"Plan: {output}", file=sys.stderr if as_json else sys.stdout)
    return 0


def _show(searched: Search, helps: list[Remedy]) -> None:
    print(asked_line(searched.question))
    if searched.chosen is not None:
        for table in (ranking(searched, runners_up(searched)), memory(searched), axes(searched)):
            print()
            show_table(*table)
    print()
    for line in words(searched):
        print(line)
    for remedy in helps:
        print(f"What would: {remedy.sentence}; {_confirmed(remedy.search)}.")
    if searched.chosen is None and not helps:
        print("No number of devices or bytes that was searched would do.")


def asked_line(asked: Question) -> str:
    """What was asked for, and the shape that it was taken for."""
    training = asked.training
    return (
        f"{asked.asked}: {asked.family.parameters(training.model):,} parameters ({asked.source}), {training.rows:,} "
        f"rows of {training.length:,} tokens, parameters in {training.parameters}; {count(asked.devices, 'device')} of "
        f"{binary_bytes(asked.chip.memory_bytes)}, otherwise {asked.chip.name}."
    )


def _confirmed(searched: Search) -> str:
    assert searched.chosen is not None
    evidence = searched.chosen.evidence
    if evidence.needed_bytes is None:
        return "predicted, since no compiler of the chip is installed"
    return f"compiled, it needs {binary_bytes(evidence.needed_bytes)}"


def _plain(searched: Search, helps: list[Remedy]) -> dict[str, Any]:
    chosen = searched.chosen
    kept = plan_file(searched.question, chosen.estimate, chosen.evidence, tuple(words(searched))) if chosen else None
    return {
        "plan": kept.model_dump() if kept else None,
        "words": list(words(searched)),
        "runners_up": [
            {
                "mesh": str(other.estimate.layout.mesh),
                "microbatches": other.estimate.layout.microbatches,
                "recompute": other.estimate.layout.recompute,
                "predicted": other.estimate.predicted().model_dump(),
                "why": other.why,
            }
            for other in runners_up(searched)
        ],
        "what_would": [remedy.sentence for remedy in helps],
    }


def _progress(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)
