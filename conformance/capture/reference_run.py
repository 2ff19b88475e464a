"""The single-device run of a recording: as its oracle computes it, and how far rounding moves it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from conformance.capture.pieces import Piece, pieces
from conformance.capture.recording import ORACLE, Recording
from conformance.capture.records import RankRecord, read_ranks
from conformance.cases.case import DTYPES, Dtype
from conformance.cases.usage import UsageError
from conformance.contract.contract import Arrays, Contract, Precision, Recipe
from conformance.evidence.arithmetic import BITS, COMPUTATION, Operation
from conformance.evidence.evidence import ReferenceResult
from conformance.evidence.tolerance import EPSILON, bounded_as

BATCH = "batch/"
COMPUTED = ("activations/", "outputs/")


@dataclass(frozen=True, kw_only=True)
class ReferenceRun:
    """A recording, read.

    oracle    how the oracle ran, a sentence
    dtype     of the case: the narrowest in which the members compute
    rank      the record of the run as the script stands
    """

    folder: Path
    oracle: str
    dtype: Dtype
    rank: RankRecord
    contract: Contract
    reference: ReferenceResult

    @property
    def steps(self) -> int:
        return len(self.reference.oracle)

    def shapes(self, moment: int) -> dict[str, tuple[int, ...]]:
        """Tensor -> shape, of the start (moment 0) or of a step."""
        start = {f"parameters/{name}": value.shape for name, value in self.reference.initial.items()}
        if moment == 0:
            return start
        batch = {f"{BATCH}{key}": value.shape for key, value in self.batch(moment).items()}
        return start | batch | {name: value.shape for name, value in self.reference.oracle[moment - 1].items()}

    def batch(self, moment: int) -> Arrays:
        """What the model was given in a step."""
        return self.contract.batches(0, self.steps)[moment - 1] if moment else {}


@dataclass(frozen=True, kw_only=True)
class Whole:
    """One run of one device: the start, every step, and the dtypes of what was seen in the first one."""

    rank: RankRecord
    start: Arrays
    steps: tuple[Arrays, ...]
    dtypes: Mapping[str, str]


def read_reference_run(folder: Path) -> ReferenceRun:
    """UsageError, in one sentence, for what is no recording, or one whose runs are not alike."""
    recording = Recording.read(folder)
    oracle = read_whole(folder / ORACLE)
    members = [read_whole(folder / name) for name in recording.members]
    steps = min(len(run.steps) for run in (oracle, *members))
    if not steps:
        raise UsageError(f"'{folder}' has no step: the script has ended before its optimizer stepped.")
    plain, lower = members[0], _lower(oracle)
    reference = _reference(recording, oracle, members, steps)
    _refuse_chance(folder, reference, recording.dtype)
    computed = [name for key, name in plain.dtypes.items() if key.startswith(COMPUTED)]
    return ReferenceRun(
        folder=folder,
        oracle=_said(recording, oracle, lower),
        dtype=_narrowest(computed or [plain.rank.dtype]),
        rank=plain.rank,
        contract=_contract(folder, plain, oracle, steps),
        reference=reference,
    )


def _reference(recording: Recording, oracle: Whole, members: list[Whole], steps: int) -> ReferenceResult:
    start = oracle.start if recording.dtype == recording.oracle else members[0].start
    return ReferenceResult(
        oracle=tuple(_seen(step) for step in oracle.steps[:steps]),
        noise=tuple(_noise(step, oracle, members) for step in range(steps)),
        initial={name.removeprefix("parameters/"): value for name, value in start.items()},
        decisions=({},) * steps,
        lower=_lower(oracle) if recording.dtype == "float64" else (),
        unevaluated="a recorded run moves its parameters and inputs alone",
    )


def _refuse_chance(folder: Path, reference: ReferenceResult, dtype: str) -> None:
    """A script that draws other numbers in every run has no yardstick: whatever is judged by it would pass.

    Rounding moves what the first step makes by a few of its units; where most of it moves by the root of one, relative
    to its size, half of all digits are chance.
    """
    sizes = {name: float(np.abs(true).max(initial=0.0)) for name, true in reference.oracle[0].items()}
    moved = [float(reference.noise[0][name].max(initial=0.0)) / size for name, size in sizes.items() if size]
    typical, most = float(np.median(moved)) if moved else 0.0, EPSILON[bounded_as(dtype)] ** 0.5
    if not typical <= most:
        raise UsageError(
            f"'{folder}' is no yardstick: most of what its first step makes differs by {100 * typical:.2g} % from run "
            f"to run, and rounding explains no more than {100 * most:.2g} %. Let the script draw the same numbers in "
            "every run, in float64 too."
        )


def _lower(oracle: Whole) -> tuple[Operation, ...]:
    """What a float64 oracle has rounded to fewer bits."""
    return tuple(
        Operation(role=COMPUTATION, tensor="", operation=what["operation"], dtype=what["dtype"], place=what["place"])
        for what in oracle.rank.lower
    )


def read_whole(folder: Path) -> Whole:
    """A run of one device. UsageError, in one sentence, for one of several."""
    ranks = read_ranks(folder)
    if len(ranks) > 1 or np.prod(list(ranks[0].mesh.values())) > 1:
        raise UsageError(f"'{folder}' ran on {len(ranks)} ranks: the recorded run is one of a single device.")
    [rank] = ranks
    moments = [_arrays(list(pieces(folder, rank, moment, {}))) for moment in rank.moments]
    start = moments[0] if moments else {}
    first = rank.moments[1].tensors if len(moments) > 1 else {}
    return Whole(
        rank=rank,
        start=start,
        steps=tuple(_with_updates(step, start) for step in moments[1:]),
        dtypes={name: tensor.dtype for name, tensor in first.items()},
    )


def _arrays(held: list[Piece]) -> Arrays:
    """Tensor -> float64, or whole numbers; what several forward calls made, one after the other along dim 0."""
    calls: dict[str, list[np.ndarray]] = {}
    for piece in held:
        value = piece.value.astype(np.float64) if piece.value.dtype.kind == "f" else piece.value
        calls.setdefault(piece.tensor, []).append(value)
    return {name: np.concatenate(values) if len(values) > 1 and values[0].ndim else values[-1]
            for name, values in calls.items()}  # fmt: skip


def _with_updates(step: Arrays, start: Arrays) -> Arrays:
    return {
        name.replace("parameters/", "updates/", 1) if name in start else name: value - start[name]
        if name in start
        else value
        for name, value in step.items()
    }


def _seen(step: Arrays) -> Arrays:
    """What a step makes, without what it was given."""
    return {name: value for name, value in step.items() if not name.startswith(BATCH)}


def _noise(step: int, oracle: Whole, members: list[Whole]) -> Arrays:
    """Elementwise, the farthest that a member is from the oracle."""
    farthest = {}
    for name, true in _seen(oracle.steps[step]).items():
        others = [member.steps[step].get(name) for member in members]
        if any(other is None or other.shape != true.shape for other in others):
            raise UsageError(
                f"'{name}' of step {step + 1} is not in every recorded run in one shape: the script is not the same "
                "from run to run."
            )
        farthest[name] = np.max([np.abs(other - true).astype(np.float64) for other in others], axis=0)
    return farthest


def _narrowest(names: list[str]) -> Dtype:
    known = [name for name in DTYPES if name in names]
    return min(known, key=lambda name: BITS[name]) if known else "bfloat16"


def _contract(folder: Path, plain: Whole, oracle: Whole, steps: int) -> Contract:
    shapes = {name.removeprefix("parameters/"): value.shape for name, value in plain.start.items()}
    batches = [
        {name.removeprefix(BATCH): value for name, value in step.items() if name.startswith(BATCH)}
        for step in oracle.steps
    ]
    rank = plain.rank
    return Contract(
        name=f"captured/{folder.name}",
        summary=f"a trainer of somebody's own, recorded on one device: {' '.join(rank.command)}",
        model=None,
        shapes=shapes,
        parameters=lambda seed: {name.removeprefix("parameters/"): value for name, value in oracle.start.items()},
        batches=lambda seed, number: batches[:number],
        references={},
        recipe=_recipe(plain, oracle, steps),
        held=False,
        replicated_axes=rank.replicated_axes,
        still=rank.still,
    )


def _recipe(plain: Whole, oracle: Whole, steps: int) -> Recipe:
    said, norm = plain.rank.recipe, oracle.steps[0].get("metrics/grad_norm")
    threshold = said.get("clip_norm")
    active = threshold is not None and norm is not None and float(norm) > threshold
    gradients = [name for key, name in plain.dtypes.items() if key.startswith("gradients/")]
    computed = [name for key, name in plain.dtypes.items() if key.startswith(COMPUTED)] or [plain.rank.dtype]
    return Recipe(
        optimizer=said.get("optimizer", ""),
        learning_rate=said.get("learning_rate", 0.0),
        clip_norm=threshold if active else None,
        accumulation=said.get("accumulation", 1),
        steps=steps,
        precision=Precision(
            parameters=plain.rank.dtype,
            compute=_narrowest(computed),
            gradients=_narrowest(gradients) if gradients else None,
        ),
    )


def _said(recording: Recording, oracle: Whole, lower: tuple[Operation, ...]) -> str:
    runs = len(recording.members)
    what = f"The oracle is the single-device run in {recording.oracle}"
    if recording.why:
        what += f" ({recording.why})"
    if lower:
        first = lower[0]
        where = f" at {first.place}" if first.place else ""
        what += f", part of which is in {first.dtype} ({first.operation}{where})"
    moved = f"{runs} runs in {recording.dtype}, moved by one rounding" if runs > 1 else f"one run in {recording.dtype}"
    return f"{what}; the yardstick are {moved}.{_left_out(oracle)}"


def _left_out(oracle: Whole) -> str:
    """What nobody handed over is compared nowhere, and is said."""
    wanted = {"the loss": ("loss",), "outputs": COMPUTED, "gradients": ("gradients/",), "the batch": (BATCH,)}
    absent = [what for what, kinds in wanted.items() if not any(name.startswith(kinds) for name in oracle.steps[0])]
    return f" Not captured, and so not judged: {', '.join(absent)}." if absent else ""
