"""`census`: nothing is lost and nothing is added; rows, tokens, keys, parameters, slots and devices are conserved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from conformance.cases.variation import is_varied
from conformance.checks.check import INPUT_SENSITIVITY, LATER_STEPS, Check
from conformance.contract.contract import Arrays
from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.division import repeats
from conformance.evidence.evidence import Observations
from conformance.evidence.gather import covered
from conformance.evidence.tolerance import EPSILON
from conformance.records import formatting
from conformance.records.results import Cause, CheckResult

ROUNDINGS = 2.0  # of a count that was divided by a number of features: 1344 / 14 need not be 96 to the last bit
_WIDE = {dtype: EPSILON[dtype] for dtype in ("float64", "float32")}  # narrower dtypes do not hold counts at all
METRICS = "metrics/"
UNASKED = ("activations/", "batch/", "buffers/", "clipped/", "ema/", "optimizer/", "parameters/", "updates/")
OF_REFERENCE = "reference: "  # begins what is counted of the reference itself
SAY_STILL = " Give values and settings that move it, or say still=('{name}',) if that is meant."
LEARNS_NOTHING = "are zero in every step, as with a learning rate of 0 or an optimizer that never steps"
LEFT_OUT = "some ranks hand over no copy of what is placed on them"


class Count(NamedTuple):
    """What was counted; a sentence when it does not add up, else empty; the ranks on which it does not.

    `missing` is the observation that no rank hands over, where that is what does not add up.
    """

    what: str
    sentence: str
    ranks: tuple[int, ...] = ()
    missing: str = ""


class Census(Check):
    name = "census"
    rule = (
        "The placed parameters are the canonical ones, bit for bit; every observation of the reference is there, "
        "whole and in its shape, and every rank that its placements name hands its copy over; every parameter has a "
        "gradient and its optimizer slots; tokens in = tokens in the loss; every batch key changes something, if it "
        "does on one device; every device of the mesh holds something; clipping is active where the recipe clips, but "
        "for drawn contracts; the reference is alive: no gradient of it is zero everywhere, its loss moves with the "
        "batch and its training moves parameters, but for what the contract says."
    )

    def __init__(self, *, keys: bool = True, metrics: bool = True) -> None:
        """Without `keys`, it is not asked whether every batch key changes something.

        Without `metrics`, those that nobody hands over are said, and not failed: gradients and updates are owed.
        """
        self._metrics = metrics
        self.needs = frozenset({LATER_STEPS, *([INPUT_SENSITIVITY] if keys else [])})

    def applies(self, case_run: CaseRun) -> bool:
        return True

    def judge(self, case_run: CaseRun) -> CheckResult:
        counts: list[Count] = [
            *_initial(case_run),
            *(count for count in _present(case_run) if self._metrics or not count.missing.startswith(METRICS)),
            *_whole(case_run),
            *_handed_over(case_run),
            *_unknown(case_run),
            *_tokens(case_run),
            *_keys(case_run),
            *_devices(case_run),
            *_clipping(case_run),
            *_alive(case_run),
        ]
        failing = [count for count in counts if count.sentence]
        return self.result(
            compared=len(counts),
            failures=[count.sentence for count in failing],
            first=failing[0].what if failing else None,
            ranks=failing[0].ranks if failing else (),
            diagnosis=_not_handed_over(failing) or _left_out(failing, case_run.case.mesh),
            detail=failing[0].sentence if failing else _unheld(case_run),
            not_held=" ".join(
                filter(None, [_repeated_rows(case_run), _unclipped(case_run), self._unseen_metrics(case_run)])
            ),
        )

    def _unseen_metrics(self, case_run: CaseRun) -> str:
        absent = dict.fromkeys(count.missing for count in _present(case_run) if count.missing.startswith(METRICS))
        which = ", ".join(f"'{name}'" for name in absent)
        return f"No rank hands over {which}, which the reference has." if absent and not self._metrics else ""


def _initial(case_run: CaseRun) -> Iterator[Count]:
    placed = {comparison.tensor.removeprefix("parameters/"): comparison.excess.error for comparison in case_run.placed}
    for name in case_run.reference.initial:
        sentence = f"The parameter '{name}' was not placed in its shape."
        if name in placed:
            off = placed[name]
            sentence = f"The placed parameter '{name}' is not the canonical one: off by {off:.3g}." if off else ""
        yield Count(f"start: parameters/{name}", sentence)


def _present(case_run: CaseRun) -> Iterator[Count]:
    for number, (step, oracle) in enumerate(zip(case_run.steps, case_run.reference.oracle, strict=False)):
        for name, expected in oracle.items():
            if name.startswith("activations/"):
                continue  # wanted for localisation, not owed
            observed, sentence, missing = step.get(name), "", ""
            if observed is None and not _is_owed(name, case_run, oracle):
                continue  # `_alive` speaks of what is zero in every step
            if observed is None:
                sentence, missing = f"'{name}' is missing from step {number + 1}.{_besides(step, oracle)}", name
            elif tuple(observed.shape) != expected.shape:
                sentence = f"'{name}' has shape {tuple(observed.shape)}, the reference has {expected.shape}."
            yield Count(f"step {number + 1}: {name}", sentence, missing=missing)


def _besides(step: Mapping[str, object], oracle: Arrays) -> str:
    """What is handed over under names that nobody knows, and compared with nothing: one of them may be misspelt."""
    unknown = [f"'{name}'" for name in step if name not in oracle and not name.startswith(UNASKED)]
    more = f" and {len(unknown) - 3} more" if unknown[3:] else ""
    return f" The reference has no {', '.join(unknown[:3])}{more}, which is handed over." if unknown else ""


def _is_owed(name: str, case_run: CaseRun, oracle: Arrays) -> bool:
    """Frameworks make no gradient of what the loss of a step does not reach: none counts as zero."""
    zero = name in oracle and not oracle[name].any()
    return case_run.contract.held or not (name.startswith("gradients/") and zero)


def _whole(case_run: CaseRun) -> Iterator[Count]:
    for number, step in enumerate(case_run.evidence.steps):
        for name, observed in step.items():
            held = covered(observed)
            lost = int(held.size - held.sum())
            sentence = f"No rank holds {lost} of {held.size} elements of '{name}'." if lost else ""
            yield Count(f"step {number + 1}: {name}", sentence)


def _handed_over(case_run: CaseRun) -> Iterator[Count]:
    """A copy that is not handed over is not judged: only what is placed elsewhere may be left out."""
    moments: list[tuple[str, Observations, Arrays]] = [("start", case_run.evidence.initial, {})]
    steps = zip(case_run.evidence.steps, case_run.reference.oracle, strict=False)
    moments += [(f"step {number + 1}", step, oracle) for number, (step, oracle) in enumerate(steps)]
    for moment, observations, oracle in moments:
        for name, observed in observations.items():
            if observed.owed_by and not name.startswith("activations/") and _is_owed(name, case_run, oracle):
                held = {rank for block in observed.blocks for rank in block.ranks}
                absent = tuple(rank for rank in observed.owed_by if rank not in held)
                sentence = f"'{name}' is missing on {formatting.ranks(absent)}." if absent else ""
                yield Count(f"{moment}: {name}", sentence, absent)


def _not_handed_over(failing: Sequence[Count]) -> tuple[Cause, ...]:
    """Where nothing else fails: the step is no less right for it, but shows less than the contract asks for."""
    names = list(dict.fromkeys(count.missing for count in failing))
    if not names or "" in names:
        return ()
    shown = " and ".join(f"'{name}'" for name in names[:2]) + (f" and {len(names) - 2} more" if names[2:] else "")
    return (Cause(cause=f"no rank hands over {shown}, which the reference has", axis=None, confidence=0.97),)


def _left_out(failing: list[Count], mesh: Mesh) -> tuple[Cause, ...]:
    """Where all that fails is that the same ranks are silent: the axis along which they lie."""
    absent = set(failing[0].ranks) if failing else set()
    if not absent or any(set(count.ranks) != absent for count in failing):
        return ()
    for axis in mesh.axes:
        places = {mesh.coordinates(rank)[axis] for rank in absent}
        if absent == {rank for rank in range(mesh.devices) if mesh.coordinates(rank)[axis] in places}:
            return (Cause(cause=LEFT_OUT, axis=axis, confidence=0.85),)
    return (Cause(cause=LEFT_OUT, axis=None, confidence=0.85),)


def _unknown(case_run: CaseRun) -> Iterator[Count]:
    known = {name for oracle in case_run.reference.oracle for name in oracle}
    for name in case_run.steps[0] if case_run.steps else ():
        if name.startswith(("gradients/", "input_gradients/", "updates/", "optimizer/")):
            yield Count(f"step 1: {name}", "" if name in known else f"'{name}' is not in the contract.")


def _tokens(case_run: CaseRun) -> Iterator[Count]:
    for number, (step, oracle) in enumerate(zip(case_run.steps, case_run.reference.oracle, strict=False)):
        observed = step.get("metrics/tokens")
        if observed is not None and "metrics/tokens" in oracle:
            valid, counted = float(oracle["metrics/tokens"]), sorted({float(b.value) for b in observed.blocks})
            slack = ROUNDINGS * _WIDE.get(observed.dtype, 0.0) * valid
            spoken = ", ".join(f"{count:.9g}" for count in counted)
            sentence = f"The batch has {valid:.9g} valid elements, the candidate counted {spoken}."
            right = all(abs(count - valid) <= slack for count in counted)
            yield Count(f"step {number + 1}: metrics/tokens", "" if right else sentence)


def _keys(case_run: CaseRun) -> Iterator[Count]:
    for key, changed in case_run.evidence.input_sensitivity.items():
        owed = not changed and key not in case_run.reference.idle
        yield Count(f"batch key {key}", f"The batch key '{key}' changes nothing: it is not used." if owed else "")


def _unheld(case_run: CaseRun) -> str:
    """What could not be counted, in sentences."""
    asked = case_run.evidence.input_sensitivity
    keys = [f"'{key}'" for key in case_run.reference.idle if key in asked]
    idle = f"Other values of {' and '.join(keys)} change nothing on one device either." if keys else ""
    return f"{_unseen_devices(case_run)} {idle}".strip()


def _devices(case_run: CaseRun) -> Iterator[Count]:
    used, asked = len(set(case_run.evidence.devices)), case_run.case.mesh.devices
    if not _unseen_devices(case_run):
        yield Count("devices", "" if used == asked else f"The mesh has {asked} devices, {used} hold something.")


def _unseen_devices(case_run: CaseRun) -> str:
    """What came as plain numbers may have lain on any device; where that leaves the count open it is not judged."""
    if len(set(case_run.evidence.devices)) == case_run.case.mesh.devices:
        return ""
    seen = (item for step in case_run.evidence.steps for item in step.items())
    plain = [name for name, observed in seen if not observed.stored_bytes and not name.startswith("parameters/")]
    arrays = [name for name in plain if case_run.evidence.steps[0][name].shape]
    which = f"'{arrays[0]}' came" if len(arrays) == 1 else f"{len(arrays)} observations came"
    return f"Which devices hold something was not seen: {which} as plain numbers." if arrays else ""


def _clipping(case_run: CaseRun) -> Iterator[Count]:
    """Nobody has tuned the threshold of a varied contract to its gradients: of it, `_unclipped` speaks."""
    if _norm_and_threshold(case_run) is not None and not is_varied(case_run.contract.name):
        yield Count(f"{OF_REFERENCE}clipping", _idle_clipping(case_run))


def _unclipped(case_run: CaseRun) -> str:
    return _idle_clipping(case_run) if is_varied(case_run.contract.name) else ""


def _idle_clipping(case_run: CaseRun) -> str:
    """A sentence where the recipe clips, and the gradients of the reference are too small for it."""
    norm, threshold = _norm_and_threshold(case_run) or (1.0, 0.0)
    idle = f"The gradient norm {norm:.3g} is below the threshold {threshold:g}: clipping is not tested."
    return "" if norm > threshold else idle


def _norm_and_threshold(case_run: CaseRun) -> tuple[float, float] | None:
    threshold = case_run.contract.recipe.clip_norm
    norm = case_run.reference.oracle[0].get("metrics/grad_norm")
    return None if threshold is None or norm is None else (float(norm), threshold)


def _alive(case_run: CaseRun) -> Iterator[Count]:
    """Two dead programs agree perfectly: what the reference itself cannot move shows nothing of a candidate."""
    still, oracle = case_run.contract.still, case_run.reference.oracle
    ask = "" if case_run.contract.held else SAY_STILL
    for name in (name for name in oracle[0] if name.startswith("gradients/")):
        yield Count(f"{OF_REFERENCE}{name}", _dead(name, "is zero everywhere", _is_dead(name, oracle), still, ask))
    if "loss" in oracle[0]:
        dead = "loss" in case_run.reference.unmoved
        yield Count(f"{OF_REFERENCE}loss", _dead("loss", "does not move with the batch", dead, still, ask))
    updates = [name for name in oracle[0] if name.startswith("updates/")]
    if updates and case_run.contract.recipe.optimizer:
        dead = all(_is_dead(name, oracle) for name in updates)
        yield Count(f"{OF_REFERENCE}updates", _dead("updates", LEARNS_NOTHING, dead, still, ask))


def _is_dead(name: str, oracle: Sequence[Arrays]) -> bool:
    """Whether a gradient or an update of the reference is zero everywhere, in every step."""
    return name.startswith(("gradients/", "updates/")) and not any(step[name].any() for step in oracle if name in step)


def _repeated_rows(case_run: CaseRun) -> str:
    """A sentence where somebody's batch consists of equal parts: ranks that take one each compute the same."""
    contract, mesh = case_run.contract, case_run.case.mesh
    if contract.held or contract.model is None:
        return ""
    batches = contract.batches(case_run.case.seed, contract.recipe.steps)
    wide = [axis for axis in mesh.axes if mesh.size(axis) > 1 and axis not in contract.replicated_axes]
    alike = [axis for axis in wide if all(repeats(batch, mesh.size(axis)) for batch in batches)]
    if not alike:
        return ""
    axes = " or ".join(f"'{axis}'" for axis in alike)
    parts = " or ".join(dict.fromkeys(str(mesh.size(axis)) for axis in alike))
    return (
        f"The rows of the batch are {parts} equal parts: where axis {axes} divides them, neither "
        "a missing reduction nor the rows of another rank show. Give rows that differ."
    )


def _dead(name: str, words: str, dead: bool, still: tuple[str, ...], ask: str) -> str:
    if dead and name not in still:
        return f"'{name}' of the reference {words}: nothing can be shown by it.{ask.format(name=name)}"
    return (
        f"The contract says that '{name}' of the reference {words}, but it is not so."
        if name in still and not dead
        else ""
    )
