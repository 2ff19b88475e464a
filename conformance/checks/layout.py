"""`layout`: arrays really are sharded as declared: bytes and blocks per rank, and floating-point work per rank."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from conformance.checks.axes import judged, together
from conformance.checks.check import LATER_STEPS, TRACE, Check
from conformance.contract.placements import Placements, is_held, local_index, written
from conformance.contract.roles import role
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block, Observed
from conformance.evidence.held import width
from conformance.records.results import CheckResult


class Layout(Check):
    name = "layout"
    of_values = False
    needs = frozenset({LATER_STEPS, TRACE})
    rule = (
        "Every parameter and optimizer slot lies on every rank as the implementation declares, by the bytes and "
        "blocks that really lie there and not by annotation; outputs lie as the contract asks; no rank does more "
        "than its share of the matrix products; every axis of the mesh divides something, held or computed, but for "
        "those that are replicated on purpose, which divide nothing."
    )

    def applies(self, case_run: CaseRun) -> bool:
        wide = case_run.case.mesh.devices > 1
        return wide or bool(case_run.contract.layouts) or case_run.evidence.declarations.layout is not None

    def judge(self, case_run: CaseRun) -> CheckResult:
        findings = [*_stored(case_run), *_asked(case_run), *_work(case_run)]
        wide = [axis for axis in case_run.case.mesh.axes if case_run.case.mesh.size(axis) > 1]
        axes = together([judged(case_run, axis) for axis in wide], promised=case_run.contract.held)
        findings += [(axis.what, axis.sentence) for axis in axes if axis.known]
        failing = [(what, sentence) for what, sentence in findings if sentence]
        unknown = " ".join(dict.fromkeys(axis.sentence for axis in axes if not axis.known))
        if not findings:
            return self.unsupported(unknown) if unknown else self.result(compared=0)
        said = " ".join(axis.purpose for axis in axes if axis.purpose)
        return self.result(
            compared=len(findings),
            failures=[sentence for _, sentence in failing],
            first=failing[0][0] if failing else None,
            not_held=unknown,
            diagnosis=tuple(axis.cause for axis in axes if axis.cause),
            **({} if failing else {"detail": said}),
        )


def _stored(case_run: CaseRun) -> Iterator[tuple[str, str]]:
    layout = case_run.evidence.declarations.layout or {}
    for moment, state in (("start", case_run.evidence.initial), ("last step", case_run.evidence.steps[-1])):
        for name, observed in state.items():
            parameter = _parameter_of(name)
            if parameter is not None and parameter in layout and (observed.shape or name in layout):
                declared = layout.get(name, layout[parameter])  # a count per parameter has no dims to divide
                yield f"{moment}: {name}", _misplaced(name, observed, declared, case_run)


def _asked(case_run: CaseRun) -> Iterator[tuple[str, str]]:
    for name, placements in case_run.contract.layouts.items():
        observed = case_run.evidence.steps[0].get(name)
        if observed is not None:
            yield f"step 1: {name}", _misplaced(name, observed, _by_role(placements, case_run), case_run)


def _by_role(asked: Placements, case_run: CaseRun) -> Placements:
    """What a contract asks of its own axes, asked of those of the mesh that have their roles."""
    meant = {axis: axis if axis in asked else role(axis, case_run.contract.roles) for axis in case_run.case.mesh.axes}
    return {axis: asked[known] for axis, known in meant.items() if known is not None and known in asked}


def _parameter_of(name: str) -> str | None:
    """`optimizer/momentum/w` and `parameters/w` belong to parameter `w`."""
    if name.startswith("parameters/"):
        return name.removeprefix("parameters/")
    return name.split("/", 2)[2] if name.startswith("optimizer/") and name.count("/") >= 2 else None


def _misplaced(name: str, observed: Observed, placements: Placements, case_run: CaseRun) -> str:
    """A sentence for the first rank that holds another number of bytes, or other elements, than its share."""
    mesh, declared = case_run.case.mesh, written(placements)
    stored = observed.stored_shape or observed.shape
    by_rank = {rank: block for block in observed.blocks for rank in block.ranks}
    for rank in range(mesh.devices):
        index = local_index(stored, placements, mesh, rank)
        share = math.prod(part.stop - part.start for part in index) if is_held(placements, mesh, rank) else 0
        block = by_rank.get(rank)
        held = observed.stored_bytes.get(rank, 0)
        if held != share * width(observed.dtype) and not _padded(observed, share, held):
            return f"'{name}' takes {held} bytes on rank {rank}; its declared share is {share} elements ({declared})."
        if observed.stored_shape is None and block is not None and not _holds(block, index):
            return f"'{name}' on rank {rank} holds other rows than its declared share ({declared})."
    return ""


def _padded(observed: Observed, share: int, held: int) -> bool:
    """Frameworks that store equal chunks pad the last ones: never more than one chunk, never the whole tensor."""
    largest = max(observed.stored_bytes.values(), default=0)
    return share * width(observed.dtype) < held == largest < observed_bytes(observed)


def observed_bytes(observed: Observed) -> int:
    return math.prod(observed.shape) * width(observed.dtype)


def _holds(block: Block, index: tuple[slice, ...]) -> bool:
    for part, wanted in zip(block.index, index, strict=True):
        held = np.arange(part.start, part.stop) if isinstance(part, slice) else part
        if not np.array_equal(held, np.arange(wanted.start, wanted.stop)) and wanted.stop > wanted.start:
            return False
    return True


def _work(case_run: CaseRun) -> Iterator[tuple[str, str]]:
    """Matrix-product work: no rank does more than its share over the axes that divide the work."""
    flops, reference = case_run.evidence.flops, case_run.reference.flops
    axes = case_run.evidence.declarations.compute_axes
    if not flops or not reference or not axes:
        return
    parts = math.prod(case_run.case.mesh.size(axis) for axis in axes)
    busiest, share = max(flops.values()), reference * _padding(case_run) / parts
    sentence = f"The busiest rank does {busiest:,} operations in matrix products; its share is {share:,.0f}."
    yield "matrix products", sentence if busiest > share else ""


def _padding(case_run: CaseRun) -> float:
    """How much larger than its canonical shape a parameter is stored: padded rows are multiplied too."""
    stored = (observed for observed in case_run.evidence.initial.values() if observed.stored_shape is not None)
    return max((math.prod(tensor.stored_shape or ()) / math.prod(tensor.shape) for tensor in stored), default=1.0)
