"""Damaged checkpoint: a state that is not the saved one is never loaded in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from conformance.contract.implementation import Unsupported
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun, Observations
from conformance.relations.checkpoint import SAVED, came_back, loaded_state, saved_state
from conformance.relations.damage import damages
from conformance.relations.oracle import refusal
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs
from conformance.relations.whole import difference

WHOLE = "an undamaged copy"


class DamagedCheckpoint(Relation):
    """Half a file, no file, a flipped byte, a save that was killed: found when it is loaded, or harmless."""

    name = "damaged checkpoint"
    relation = (
        "A checkpoint with a file truncated, emptied or missing, with one byte flipped in the middle of its largest "
        "file or among its numbers, or with only the files that were written first, is refused by every rank or loads "
        "to the saved bits; an undamaged copy loads."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        with runs.platform.shared_folder() as folder:
            good = folder / "checkpoint"
            saved = runs.extra_run(SAVED, lambda: saved_state(runs, good))
            yield saved
            if saved.refused:
                return
            for number, (label, damage) in enumerate([(WHOLE, _leave), *damages(good)]):
                copy = folder / f"copy {number}"
                _copied(runs, good, copy, damage)
                yield runs.extra_run(label, partial(_loaded, runs, copy), like=saved.observations)
                _removed(runs, copy)

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        made = {extra_run.label: extra_run for extra_run in extra_runs}
        saved = made.pop(SAVED)
        for label, extra_run in made.items():
            if not extra_run.refused:
                yield label, _silently_wrong(saved, extra_run)
            elif extra_run.observations:
                yield (
                    label,
                    f"With {label}, some ranks load a state and others refuse: {extra_run.refused.rstrip('.')}.",
                )
            else:
                yield label, refusal(extra_run) if label == WHOLE else ""
        if saved.refused:
            yield SAVED, refusal(saved)

    def cause(self, extra_runs: Sequence[ExtraRun]) -> str:
        return came_back(extra_runs, WHOLE) or super().cause(extra_runs)


def _silently_wrong(saved: ExtraRun, extra_run: ExtraRun) -> str:
    names = dict.fromkeys((*saved.observations, *extra_run.observations))
    wrong = [sentence for name in names if (sentence := difference(name, saved, extra_run))]
    return f"Silently wrong: {wrong[0]}" if wrong else ""


def _loaded(runs: Runs, folder: Path) -> Observations:
    try:
        return loaded_state(runs, folder)
    except Unsupported as refusal:  # here a refusal is what is wanted, and declines no relation
        raise ValueError(str(refusal)) from refusal


def _copied(runs: Runs, good: Path, copy: Path, damage: Callable[[Path], None]) -> None:
    if runs.platform.is_leader:
        shutil.copytree(good, copy)
        damage(copy)
    runs.platform.barrier()


def _removed(runs: Runs, copy: Path) -> None:
    runs.platform.barrier()
    if runs.platform.is_leader:
        shutil.rmtree(copy)


def _leave(folder: Path) -> None:
    """No damage."""
