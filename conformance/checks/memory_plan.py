"""The plan of memory: what a contract's recipe and an implementation's layout say of every tensor that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from conformance.contract.placements import Placements
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Observed
from conformance.evidence.held import shares, width
from conformance.records.results import MemoryFigure

STATE = "state"


@dataclass(frozen=True, kw_only=True)
class Held:
    """A tensor that ranks hold.

    kind        `parameters`, `gradients`, `optimizer/<slot>` or `batch`
    plan        whose placement it is held to, in words
    placements  None where none is declared
    dtype       in which the recipe keeps it; None: in any
    """

    kind: str
    name: str
    parameter: str
    moment: str
    observed: Observed
    plan: str
    placements: Placements | None
    dtype: str | None

    @property
    def label(self) -> str:
        return f"{self.moment}: {self.name}"


def held_tensors(case_run: CaseRun) -> Iterator[Held]:
    """The state at the start and after the last step, the gradients and the batch of the first step."""
    evidence = case_run.evidence
    moments = [("start", evidence.initial), ("step 1", evidence.steps[0]), ("last step", evidence.steps[-1])]
    for moment, observations in moments:
        for name, observed in observations.items():
            kind, parameter = _kind(name)
            if parameter and (kind == "gradients") == (moment == "step 1"):
                yield _held(case_run, kind, name, parameter, moment, observed)
    for key, observed in evidence.batch.items():
        yield _held(case_run, "batch", f"batch/{key}", key, "step 1", observed)


def _kind(name: str) -> tuple[str, str]:
    """`optimizer/momentum/w` -> (`optimizer/momentum`, `w`); an empty parameter for what is of no parameter."""
    head, _, rest = name.partition("/")
    if head in ("parameters", "gradients"):
        return head, rest
    slot, slash, parameter = rest.partition("/")
    return (f"optimizer/{slot}", parameter) if head == "optimizer" and slash else (head, "")


def _held(case_run: CaseRun, kind: str, name: str, parameter: str, moment: str, observed: Observed) -> Held:
    layout = case_run.evidence.declarations.layout or {}
    own = kind == "parameters" or name in layout
    of_parameter = None if kind == "batch" or not observed.shape else layout.get(parameter)
    return Held(
        kind=kind,
        name=name,
        parameter=parameter,
        moment=moment,
        observed=observed,
        plan="its placement" if own else "the placement of its parameter",
        placements=layout.get(name, of_parameter),
        dtype=_dtype(case_run, kind),
    )


def _dtype(case_run: CaseRun, kind: str) -> str | None:
    """Optimizer slots are kept in float32, and in float64 where everything is."""
    precision, case = case_run.contract.recipe.precision, case_run.case.dtype
    if kind in ("parameters", "gradients"):
        return precision.dtype(kind, case)
    return None if kind == "batch" else "float64" if case == "float64" else "float32"


def figures(case_run: CaseRun, tensors: Sequence[Held]) -> tuple[MemoryFigure, ...]:
    """Bytes per device, kind by kind: of the state after the last step, of gradients and batch in the first one."""
    kept: dict[str, list[Held]] = {"parameters": [], "gradients": []}
    for held in tensors:
        if held.moment != "start" and held.observed.stored_bytes:
            kept.setdefault(held.kind, []).append(held)
    devices = range(case_run.case.mesh.devices)
    made = []
    for kind, group in ((kind, group) for kind, group in kept.items() if group):
        by_rank = {rank: sum(held.observed.stored_bytes.get(rank, 0) for held in group) for rank in devices}
        made.append(_figure(kind, by_rank, _planned_bytes(case_run, group)))
    state = case_run.evidence.state
    return (*made, *([_figure(STATE, dict(state.held), None)] if state else []))


def _figure(kind: str, by_rank: dict[int, int], planned: int | None) -> MemoryFigure:
    rank = max(by_rank, key=lambda rank: by_rank[rank])
    return MemoryFigure(kind=kind, most=by_rank[rank], rank=rank, least=min(by_rank.values()), planned=planned)


def _planned_bytes(case_run: CaseRun, group: Sequence[Held]) -> int | None:
    """The most that the plan gives a device; None where it does not say it of every tensor."""
    if any(held.placements is None for held in group):
        return None
    mesh, by_rank = case_run.case.mesh, dict.fromkeys(range(case_run.case.mesh.devices), 0)
    for held in group:
        each = width(held.dtype or held.observed.dtype)
        for rank, share in shares(held.observed, held.placements or {}, mesh).items():
            by_rank[rank] += share * each
    return max(by_rank.values())
