"""Checkpoint: a run that was saved and loaded goes on as if nothing had happened, and the mesh may change between."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from conformance.contract.contract import Arrays
from conformance.contract.implementation import Unsupported
from conformance.evidence.blocks import same_bits
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun, Observations
from conformance.relations.layouts import other_layouts
from conformance.relations.oracle import copies_agree, refusal
from conformance.relations.relation import Finding, Relation
from conformance.relations.rounded import rounded
from conformance.relations.runs import Runs
from conformance.relations.whole import difference, one_axis, same_state

BEFORE = 2  # steps before the save, at most: a count of updates, and slots that are no longer the gradient
ELSEWHERE = 3  # other meshes on which the checkpoint must load
SAVED, LOADED = "the saved state", "a checkpoint loaded on its own mesh"


class Checkpoint(Relation):
    """Everything that the next step reads is in the checkpoint, in terms that know no mesh."""

    name = "checkpoint"
    relation = (
        "After two steps the state is saved. A new program on the same mesh loads it and takes the remaining steps "
        "with the same bits, observations and state, as the run that was not interrupted. On three or more other "
        "meshes (sizes rotated, all devices on one axis, other device orders) it loads to the same bits."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        with runs.platform.shared_folder() as folder:
            saved = runs.extra_run(SAVED, lambda: saved_state(runs, folder / "checkpoint"))
            yield saved
            if not saved.refused:
                yield from self.resumed(runs, folder / "checkpoint")
                loaded = list(self.elsewhere(runs, folder / "checkpoint"))
                yield from loaded
                if runs.platform.allows_smaller_mesh and any(_differs(saved, extra_run) for extra_run in loaded):
                    yield from self.narrower(runs, folder / "checkpoint")

    def resumed(self, runs: Runs, folder: Path) -> Iterator[ExtraRun]:
        """The state as loaded, then every step that was still to come."""
        instance, states = runs.fresh(), []

        def load() -> Observations:
            states.append(instance.loaded(folder))
            return instance.collected(states[-1])

        def step(batch: Arrays) -> Observations:
            state, seen = instance.stepped(states[-1], batch)
            states.append(state)
            return instance.observed(seen) | instance.collected(state)

        yield runs.extra_run(LOADED, load)
        taken = steps_before(len(runs.batches))
        for number, batch in enumerate(runs.batches[taken:], taken):
            if states:
                yield runs.extra_run(_after(number), partial(step, batch))

    def elsewhere(self, runs: Runs, folder: Path) -> Iterator[ExtraRun]:
        """The state as loaded on other meshes; those that the implementation refuses are left out."""
        loaded = 0
        for mesh in other_layouts(runs.mesh, allows_smaller_mesh=runs.platform.allows_smaller_mesh):
            if loaded == ELSEWHERE + runs.platform.allows_smaller_mesh:
                return
            try:
                yield runs.extra_run(f"a checkpoint loaded on {mesh}", partial(loaded_state, runs, folder, mesh), mesh)
                loaded += 1
            except Unsupported:
                continue

    def narrower(self, runs: Runs, folder: Path) -> Iterator[ExtraRun]:
        """The state as loaded where one axis alone has another size, 1: with which of them does it come out wrong?"""
        for axis, size in runs.mesh.sizes if len(runs.mesh.sizes) > 1 else ():
            if size > 1:
                sizes = tuple((name, 1 if name == axis else n) for name, n in runs.mesh.sizes)
                mesh = replace(runs.mesh, sizes=sizes)
                label = f"a checkpoint loaded on {mesh}"
                yield runs.extra_run(label, partial(loaded_state, runs, folder, mesh), mesh)

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        yield from ((extra_run.label, refusal(extra_run)) for extra_run in extra_runs if extra_run.refused)
        made = {extra_run.label: extra_run for extra_run in extra_runs if not extra_run.refused}
        saved = made.pop(SAVED, None)
        if saved is None:
            return
        steps = {_after(number): step for number, step in enumerate(case_run.evidence.steps)}
        for label, extra_run in made.items():
            yield from copies_agree(extra_run)
            yield from _continued(extra_run, steps[label]) if label in steps else same_state(saved, extra_run)
        yield (
            "other meshes",
            _enough(case_run, [run for run in made.values() if run.mesh != case_run.case.mesh]),
        )

    def axis(self, extra_runs: Sequence[ExtraRun]) -> str | None:
        """That of the shards, or stages, that come back as they were not saved; or whose number must stay the same."""
        made = {extra_run.label: extra_run for extra_run in extra_runs if not extra_run.refused}
        if not {SAVED, LOADED} <= made.keys():
            return None
        saved = made[SAVED]
        elsewhere = [run for run in extra_runs if run.mesh != saved.mesh]
        return one_axis(saved, made[LOADED]) or _of_size(saved, elsewhere) or _that_divides(saved, elsewhere)

    def cause(self, extra_runs: Sequence[ExtraRun]) -> str:
        return came_back(extra_runs, LOADED) or super().cause(extra_runs)


def came_back(extra_runs: Sequence[ExtraRun], label: str) -> str:
    """How the state that was loaded differs from the saved one, where that can be said in a sentence; else empty."""
    made = {extra_run.label: extra_run for extra_run in extra_runs if not extra_run.refused}
    return rounded(made[SAVED], made[label]) if {SAVED, label} <= made.keys() else ""


def steps_before(steps: int) -> int:
    """How many steps are taken before the save: there is one to come, where the recipe has two."""
    return min(BEFORE, max(steps - 1, 1))


def saved_state(runs: Runs, folder: Path) -> Observations:
    """Take the first steps, and save into a new folder -> the state that was saved."""
    state: Any = runs.instance.placed(runs.parameters)
    for batch in runs.batches[: steps_before(len(runs.batches))]:
        state, _ = runs.instance.stepped(state, batch)
    collected = runs.instance.collected(state)
    if runs.platform.is_leader:
        folder.mkdir()
    runs.platform.barrier()
    runs.instance.saved(state, folder)
    return collected


def loaded_state(runs: Runs, folder: Path, mesh: Any = None) -> Observations:
    """The state that a new program loads."""
    instance = runs.fresh(mesh=mesh)
    return instance.collected(instance.loaded(folder))


def _differs(saved: ExtraRun, loaded: ExtraRun) -> bool:
    return bool(loaded.refused) or any(sentence for _, sentence in same_state(saved, loaded))


def _of_size(saved: ExtraRun, elsewhere: Sequence[ExtraRun]) -> str | None:
    """The axis whose size is another one wherever the state comes back wrong, and the same wherever it is right."""
    wrong = [run.mesh for run in elsewhere if _differs(saved, run)]
    right = [run.mesh for run in elsewhere if not _differs(saved, run)]
    axes = [
        axis
        for axis, size in saved.mesh.sizes
        if all(mesh.size(axis) != size for mesh in wrong) and all(mesh.size(axis) == size for mesh in right)
    ]
    return axes[0] if wrong and len(axes) == 1 else None


def _that_divides(saved: ExtraRun, elsewhere: Sequence[ExtraRun]) -> str | None:
    """The only axis that divides what comes back wrong: on all others every rank has the same of it."""
    wrong = {
        name
        for run in elsewhere
        for name in saved.observations.keys() & run.observations.keys()
        if difference(name, saved, run)
    }
    axes = [axis for axis in saved.mesh.axes if any(_divides(axis, saved, name) for name in wrong)]
    return axes[0] if len(axes) == 1 else None


def _divides(axis: str, saved: ExtraRun, name: str) -> bool:
    """Whether ranks that differ along an axis alone have different parts of a tensor, or only some have any."""
    parts = {rank: number for number, block in enumerate(saved.observations[name].blocks) for rank in block.ranks}
    return any(len({parts.get(rank) for rank in group}) > 1 for group in saved.mesh.groups(axis))


def _after(step: int) -> str:
    return f"step {step + 1} after loading"


def _continued(extra_run: ExtraRun, uninterrupted: Observations) -> Iterator[Finding]:
    for name, observed in uninterrupted.items():
        same = name in extra_run.observations and same_bits(observed, extra_run.observations[name])
        sentence = "" if same else f"In {extra_run.label}, {name} has other bits than without the interruption."
        yield f"{extra_run.label}: {name}", sentence


def _enough(case_run: CaseRun, elsewhere: Sequence[ExtraRun]) -> str:
    if case_run.case.mesh.devices == 1 or len(elsewhere) >= ELSEWHERE:
        return ""
    return f"The checkpoint was loaded on {len(elsewhere)} other meshes; it must load on {ELSEWHERE}."
