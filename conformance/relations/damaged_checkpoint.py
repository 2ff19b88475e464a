"""Damaged checkpoint: a state that is not the saved one is never loaded in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from conformance.contract.implementation import Unsupported
from conformance.evidence.comparison import Exhibit
from conformance.evidence.evidence import Observations, Trial
from conformance.relations.checkpoint import SAVED, loaded_state, saved_state
from conformance.relations.damage import damages
from conformance.relations.law import Finding, Law
from conformance.relations.oracle import refusal
from conformance.relations.runs import Runs
from conformance.relations.whole import difference

WHOLE = "an undamaged copy"


class DamagedCheckpoint(Law):
    """Half a file, no file, a flipped byte, a save that was killed: found when it is loaded, or harmless."""

    name = "damaged checkpoint"
    law = (
        "A checkpoint with a file truncated, emptied or missing, with one byte flipped in the middle of its largest "
        "file or among its numbers, or with only the files that were written first, is refused by every rank or loads "
        "to the saved bits; an undamaged copy loads."
    )

    def trials(self, runs: Runs) -> Iterator[Trial]:
        with runs.platform.shared_folder() as folder:
            good = folder / "checkpoint"
            saved = runs.trial(SAVED, lambda: saved_state(runs, good))
            yield saved
            if saved.refused:
                return
            for number, (label, damage) in enumerate([(WHOLE, _leave), *damages(good)]):
                copy = folder / f"copy {number}"
                _copied(runs, good, copy, damage)
                yield runs.trial(label, partial(_loaded, runs, copy), like=saved.observations)
                _removed(runs, copy)

    def judge(self, exhibit: Exhibit, trials: Sequence[Trial]) -> Iterator[Finding]:
        made = {trial.label: trial for trial in trials}
        saved = made.pop(SAVED)
        for label, trial in made.items():
            if not trial.refused:
                yield label, _silently_wrong(saved, trial)
            elif trial.observations:
                yield label, f"With {label}, some ranks load a state and others refuse: {trial.refused.rstrip('.')}."
            else:
                yield label, refusal(trial) if label == WHOLE else ""
        if saved.refused:
            yield SAVED, refusal(saved)


def _silently_wrong(saved: Trial, trial: Trial) -> str:
    names = dict.fromkeys((*saved.observations, *trial.observations))
    wrong = [sentence for name in names if (sentence := difference(name, saved, trial))]
    return f"Silently wrong: {wrong[0]}" if wrong else ""


def _loaded(runs: Runs, folder: Path) -> Observations:
    try:
        return loaded_state(runs, folder)
    except Unsupported as refusal:  # here a refusal is what is wanted, and declines no law
        raise ValueError(str(refusal)) from refusal


def _copied(runs: Runs, good: Path, copy: Path, damage: Callable[[Path], None]) -> None:
    if runs.platform.leads:
        shutil.copytree(good, copy)
        damage(copy)
    runs.platform.meet()


def _removed(runs: Runs, copy: Path) -> None:
    runs.platform.meet()
    if runs.platform.leads:
        shutil.rmtree(copy)


def _leave(folder: Path) -> None:
    """No damage."""
