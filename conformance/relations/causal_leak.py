"""Causal leak: what comes later in a row cannot be seen earlier.

B, R: rows  S: tokens of a row
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from conformance.contract.contract import Arrays
from conformance.contract.implementation import Unsupported
from conformance.contract.mesh import Mesh
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import ExtraRun, Observed
from conformance.relations.oracle import refusal
from conformance.relations.relation import Finding, Relation
from conformance.relations.runs import Runs

SEEN = ("tokens", "inputs", "document_starts", "attention_mask")  # batch keys that a token brings to later ones
OUTPUTS = ("outputs/y", "outputs/logits")
RUNS = 3  # extra steps, where there are rows enough


class CausalLeak(Relation):
    """The most famous bug of split sequences: a block that is masked as if it came from the own rank."""

    name = "causal leak"
    relation = (
        "When everything about the tokens of a row from a cut on is changed, the outputs of its tokens before the cut "
        "keep their bits on every rank, and some of those behind it change. Cuts: after the first token, in the "
        "middle, before the last token, and on both sides of every shard boundary of the sequence, each in other rows."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        batch = runs.batches[0]
        if batch["mask"].ndim < 2:
            raise Unsupported("The rows of this contract are single tokens.")

        def outputs(cut_R: np.ndarray) -> dict[str, Observed]:
            state = runs.instance.placed(runs.parameters)
            _, seen = runs.instance.stepped(state, changed_from(batch, cut_R))
            return runs.instance.observed({name: value for name, value in seen.items() if name in OUTPUTS})

        for label, cut_R in cuts_of_rows(batch["mask"].shape, runs.mesh).items():
            yield runs.extra_run(label, partial(outputs, cut_R))

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        first, made = case_run.evidence.steps[0], {extra_run.label: extra_run for extra_run in extra_runs}
        moved: dict[str, dict[int, np.ndarray]] = {}  # output -> cut -> [tokens]: did it move in any row with that cut?
        for label, cut_R in cuts_of_rows(case_run.contract.batch_shapes["mask"], case_run.case.mesh).items():
            if made[label].refused:
                yield label, refusal(made[label])
            for name, observed in made[label].observations.items():
                moved_RS = moved_tokens(first[name], observed)
                for cut in sorted(set(cut_R.tolist())):
                    moved_S = moved_RS[cut_R == cut].any(axis=0)
                    known = moved.setdefault(name, {})
                    known[cut] = known.get(cut, False) | moved_S
        for name, cuts_moved in moved.items():
            for cut, moved_S in sorted(cuts_moved.items()):
                yield from _findings(name, cut, moved_S)


def _findings(name: str, cut: int, moved_S: np.ndarray) -> Iterator[Finding]:
    sentence, early = "", np.flatnonzero(moved_S[:cut])
    if early.size:
        sentence = f"When tokens from {cut} on change, {name} changes at token {early[0]}, which comes before."
    yield f"{_label(cut)}: {name} before it", sentence
    seen = bool(moved_S[cut:].any())
    sentence = "" if seen else f"When tokens from {cut} on change, {name} does not change there: it does not see them."
    yield f"{_label(cut)}: {name} behind it", sentence


def _label(cut: int) -> str:
    return f"tokens changed from {cut} on"


def cuts_of_rows(shape: Sequence[int], mesh: Mesh) -> dict[str, np.ndarray]:
    """Extra run -> the cut of each row. Rows are independent, so that they try different cuts at once.

    Every cut is tried in a row at least, and in RUNS of them where there are as many rows as cuts.
    """
    rows, length = shape[:2]
    wanted = np.array(cuts(length, mesh))
    number = min(len(wanted), max(RUNS, -(-len(wanted) // rows)))
    first = np.arange(rows)
    return {
        f"tokens changed from one cut on in each row, {run + 1} of {number}": wanted[
            (first + run * -(-len(wanted) // number)) % len(wanted)
        ]
        for run in range(number)
    }


def cuts(length: int, mesh: Mesh) -> list[int]:
    """Places in a row; a sequence may lie in equal chunks, one per rank, or in two per rank (zigzag)."""
    positions = {1, length // 2, length - 1}
    for parts in (mesh.size("sequence"), 2 * mesh.size("sequence")):
        edge = -(-length // parts)
        positions |= {edge - 1, edge, edge + 1} if parts > 1 else set()
    return sorted(cut for cut in positions if 0 < cut < length)


def changed_from(batch: Arrays, cut_R: np.ndarray) -> Arrays:
    """From the cut of each row on: other tokens, documents begin where they did not, padding is where it was not."""
    changed, length = dict(batch), batch["mask"].shape[1]
    behind_RS = np.arange(length) >= cut_R[:, None]
    for key in SEEN:
        if key in batch and batch[key].shape[:2] == batch["mask"].shape:
            behind = behind_RS.reshape(*behind_RS.shape, *[1] * (batch[key].ndim - 2))
            changed[key] = np.where(behind, _other(batch[key]), batch[key]).astype(batch[key].dtype)
    return changed


def _other(value: np.ndarray) -> np.ndarray:
    """Other values of the same kind everywhere: the next id that the batch has, the other truth value, other reals."""
    if np.isin(value, (0, 1)).all():
        return 1 - value
    if value.dtype.kind in "iu":
        ids, where = np.unique(value, return_inverse=True)
        return np.roll(ids, -1)[where].reshape(value.shape)
    return 0.25 - 1.5 * value


def moved_tokens(before: Observed, after: Observed) -> np.ndarray:
    """[rows, tokens]: does some rank hold other bits there?"""
    then = {rank: block for block in before.blocks for rank in block.ranks}
    moved_RS = np.zeros(before.shape[:2], dtype=bool)
    for block in after.blocks:
        rows, tokens = (np.arange(size)[where] for size, where in zip(before.shape[:2], block.index[:2], strict=True))
        for rank in block.ranks:
            moved_RS[np.ix_(rows, tokens)] |= _moved(then[rank].value, block.value)
    return moved_RS


def _moved(before_BS: np.ndarray, after_BS: np.ndarray) -> np.ndarray:
    """Per row and token: are there other bits?"""
    if before_BS.shape != after_BS.shape:
        return np.ones(after_BS.shape[:2], dtype=bool)
    if not after_BS.size:  # a shard of nothing but padding
        return np.zeros(after_BS.shape[:2], dtype=bool)
    bits = [np.ascontiguousarray(value).view(np.uint8).reshape(*value.shape, -1) for value in (before_BS, after_BS)]
    value: np.ndarray = (bits[0] != bits[1]).reshape(*before_BS.shape[:2], -1).any(axis=2)
    return value
