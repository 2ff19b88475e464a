"""`conformance.check_matrix`: the same two functions on several meshes in several dtypes, by one set of workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from conformance.cases.case import Dtype
from conformance.contract.mesh import Mesh
from conformance.inline.asked import Batches
from conformance.inline.check import Judgement, check


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What `check_matrix` returns: true if every case passed; printed, a table, and what is wrong where one fails."""

    judgements: tuple[Judgement, ...]

    @property
    def passed(self) -> bool:
        return all(judgement.passed for judgement in self.judgements)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        results = [judgement.result for judgement in self.judgements]
        cases = [(str(result.case.mesh), result.case.dtype, result.spoken) for result in results]
        widths = [max(len(case[column]) for case in cases) for column in (0, 1)]
        table = [f"{mesh:{widths[0]}}  {dtype:{widths[1]}}  {verdict}" for mesh, dtype, verdict in cases]
        return "\n".join([*table, *(f"\n{judgement}" for judgement in self.judgements if not judgement.passed)])


def check_matrix(
    *,
    reference: Callable[..., Any],
    candidate: Callable[..., Any],
    parameters: Any,
    batch: Batches,
    meshes: Sequence[str],
    dtypes: Sequence[Dtype] = ("float64",),
    **options: Any,
) -> Matrix:
    """Every mesh in every dtype; the other arguments are those of `check`.

    The largest mesh runs first, so that its workers serve for all. Raises ValueError, in one sentence, as `check` does,
    and where there is no mesh or no dtype: a matrix without cases has not passed.
    """
    cells = [(str(mesh), dtype) for mesh in map(Mesh.parse, meshes) for dtype in dtypes]
    if not cells:
        raise ValueError("There is nothing to check: give at least one mesh and one dtype.")
    given = {"reference": reference, "candidate": candidate, "parameters": parameters, "batch": batch, **options}
    largest_first = sorted(cells, key=lambda cell: -Mesh.parse(cell[0]).devices)
    judged = {cell: check(mesh=cell[0], dtype=cell[1], **given) for cell in largest_first}
    return Matrix(judgements=tuple(judged[cell] for cell in cells))
