"""Causal leak: what comes later in a row cannot be seen earlier.

B: rows  S: tokens of a row
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


class CausalLeak(Relation):
    """The most famous bug of split sequences: a block that is masked as if it came from the own rank."""

    name = "causal leak"
    relation = (
        "When everything about the tokens from a cut on is changed, the outputs of the tokens before the cut keep "
        "their bits on every rank, and some of those behind it change. Cuts: after the first token, in the middle, "
        "before the last token, and on both sides of every shard boundary of the sequence."
    )

    def extra_runs(self, runs: Runs) -> Iterator[ExtraRun]:
        batch = runs.batches[0]
        if batch["mask"].ndim < 2:
            raise Unsupported("The rows of this contract are single tokens.")

        def outputs(cut: int) -> dict[str, Observed]:
            state = runs.instance.placed(runs.parameters)
            _, seen = runs.instance.stepped(state, changed_from(batch, cut))
            return runs.instance.observed({name: value for name, value in seen.items() if name in OUTPUTS})

        for cut in cuts(batch["mask"].shape[1], runs.mesh):
            yield runs.extra_run(_label(cut), partial(outputs, cut))

    def judge(self, case_run: CaseRun, extra_runs: Sequence[ExtraRun]) -> Iterator[Finding]:
        length = case_run.contract.batch_shapes["mask"][1]
        first, made = case_run.evidence.steps[0], {extra_run.label: extra_run for extra_run in extra_runs}
        for cut in cuts(length, case_run.case.mesh):
            extra_run = made[_label(cut)]
            if extra_run.refused:
                yield extra_run.label, refusal(extra_run)
            for name, observed in extra_run.observations.items():
                yield from _findings(name, cut, first[name], observed)


def _findings(name: str, cut: int, before: Observed, after: Observed) -> Iterator[Finding]:
    early, late = differing_tokens(before, after, cut)
    sentence = ""
    if early:
        sentence = f"When tokens from {cut} on change, {name} changes at token {early[0]}, which comes before."
    yield f"{_label(cut)}: {name} before it", sentence
    sentence = "" if late else f"When tokens from {cut} on change, {name} does not change there: it does not see them."
    yield f"{_label(cut)}: {name} behind it", sentence


def _label(cut: int) -> str:
    return f"tokens changed from {cut} on"


def cuts(length: int, mesh: Mesh) -> list[int]:
    """Places in a row; a sequence may lie in equal chunks, one per rank, or in two per rank (zigzag)."""
    positions = {1, length // 2, length - 1}
    for parts in (mesh.size("sequence"), 2 * mesh.size("sequence")):
        edge = -(-length // parts)
        positions |= {edge - 1, edge, edge + 1} if parts > 1 else set()
    return sorted(cut for cut in positions if 0 < cut < length)


def changed_from(batch: Arrays, cut: int) -> Arrays:
    """From the cut on: other tokens, documents begin where they did not, and padding is where it was not."""
    changed = dict(batch)
    for key in SEEN:
        if key in batch and batch[key].shape[:2] == batch["mask"].shape:
            changed[key] = batch[key].copy()
            changed[key][:, cut:] = _other(batch[key])[:, cut:]
    return changed


def _other(value: np.ndarray) -> np.ndarray:
    """Other values of the same kind everywhere: the next id that the batch has, the other truth value, other reals."""
    if np.isin(value, (0, 1)).all():
        return 1 - value
    if value.dtype.kind in "iu":
        ids, where = np.unique(value, return_inverse=True)
        return np.roll(ids, -1)[where].reshape(value.shape)
    return 0.25 - 1.5 * value


def differing_tokens(before: Observed, after: Observed, cut: int) -> tuple[list[int], list[int]]:
    """Tokens (dim 1) at which some rank holds other bits: those before the cut, and those behind it."""
    then = {rank: block for block in before.blocks for rank in block.ranks}
    different: set[int] = set()
    for block in after.blocks:
        tokens = np.arange(before.shape[1])[block.index[1]]
        for rank in block.ranks:
            different |= set(tokens[_moved(then[rank].value, block.value)].tolist())
    return sorted(t for t in different if t < cut), sorted(t for t in different if t >= cut)


def _moved(before_BS: np.ndarray, after_BS: np.ndarray) -> np.ndarray:
    """Per token: are there other bits in any row?"""
    if before_BS.shape != after_BS.shape:
        return np.ones(after_BS.shape[1], dtype=bool)
    if not after_BS.size:  # a shard of nothing but padding
        return np.zeros(after_BS.shape[1], dtype=bool)
    bits = [np.ascontiguousarray(value).view(np.uint8).reshape(*value.shape, -1) for value in (before_BS, after_BS)]
    value: np.ndarray = np.moveaxis(bits[0] != bits[1], 1, 0).reshape(before_BS.shape[1], -1).any(axis=1)
    return value
