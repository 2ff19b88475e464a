"""Damaged checkpoint: a state that is not the saved one is never loaded in silence."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from conformance.evidence import Observations, Trial
from conformance.exhibit import Exhibit
from conformance.implementation import Unsupported
from conformance.relations.checkpoint import SAVED, loaded_state, saved_state
from conformance.relations.damage import damages
from conformance.relations.law import Finding, Law
from conformance.relations.oracle import refusal
from conformance.relations.whole import difference

if TYPE_CHECKING:
    from conformance.workers.laboratory import Laboratory

WHOLE = "an undamaged copy"


class DamagedCheckpoint(Law):
    """Half a file, no file, a flipped byte, a save that was killed: found when it is loaded, or harmless."""

    name = "damaged checkpoint"
    law = (
        "A checkpoint with a file truncated, emptied or missing, with one byte flipped in the middle of its largest "
        "file or among its numbers, or with only the files that were written first, is refused by every rank or loads "
        "to the saved bits; an undamaged copy loads."
    )

    def trials(self, lab: Laboratory) -> Iterator[Trial]:
        with lab.platform.shared_folder() as folder:
            good = folder / "checkpoint"
            saved = lab.trial(SAVED, lambda: saved_state(lab, good))
            yield saved
            if saved.refused:
                return
            for number, (label, damage) in enumerate([(WHOLE, _leave), *damages(good)]):
                copy = folder / f"copy {number}"
                _copied(lab, good, copy, damage)
                yield lab.trial(label, partial(_loaded, lab, copy), like=saved.observations)
                _removed(lab, copy)

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


def _loaded(lab: Laboratory, folder: Path) -> Observations:
    try:
        return loaded_state(lab, folder)
    except Unsupported as refusal:  # here a refusal is what is wanted, and declines no law
        raise ValueError(str(refusal)) from refusal


def _copied(lab: Laboratory, good: Path, copy: Path, damage: Callable[[Path], None]) -> None:
    if lab.platform.leads:
        shutil.copytree(good, copy)
        damage(copy)
    lab.platform.meet()


def _removed(lab: Laboratory, copy: Path) -> None:
    lab.platform.meet()
    if lab.platform.leads:
        shutil.rmtree(copy)


def _leave(folder: Path) -> None:
    """No damage."""
