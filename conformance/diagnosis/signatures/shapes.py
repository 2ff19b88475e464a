"""Signatures of shape: a tensor is longer or shorter than the reference's by the size of an axis."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.evidence.comparison import CaseRun
from conformance.records.results import Cause


def misshapen(case_run: CaseRun) -> Iterator[Cause]:
    """Of the first tensor of the first step that has another shape than the reference's."""
    oracle = case_run.reference.oracle[0] if case_run.reference.oracle else {}
    seen = case_run.steps[0] if case_run.steps else {}
    for name, expected in oracle.items():
        shape = tuple(seen[name].shape) if name in seen else expected.shape
        if shape != expected.shape:
            yield from _cause(case_run, name, shape, expected.shape)
            return


def _cause(case_run: CaseRun, name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> Iterator[Cause]:
    differing = [dim for dim, sizes in enumerate(zip(shape, wanted, strict=False)) if sizes[0] != sizes[1]]
    if len(shape) != len(wanted) or len(differing) != 1:
        return
    dim = differing[0]
    axes = [(axis, size) for axis, size in case_run.case.mesh.sizes if size > 1]
    longer = [axis for axis, size in axes if shape[dim] == size * wanted[dim]]
    shorter = [axis for axis, size in axes if shape[dim] * size == wanted[dim]]
    basis = f"'{name}' has {shape[dim]} elements along dim {dim}, the reference has {wanted[dim]}"
    for axis in longer:
        words = f"size-of-axis times too large along dim {dim}: gathered what was whole already"
        yield Cause(cause=words, axis=axis, confidence=0.9, axis_confidence=0.8 / len(longer), basis=basis)
    for axis in shorter:
        words = f"1/size-of-axis of it along dim {dim}: one rank's part was taken for the whole"
        yield Cause(cause=words, axis=axis, confidence=0.9, axis_confidence=0.8 / len(shorter), basis=basis)
