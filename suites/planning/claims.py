"""`python -m suites.planning.claims RESULTS`: what guides claim of parallel training, and what is found of it here.

Memory is that of the footprint, which `results/planning` holds against compiled programs; times are those of the cost
model on an H100: products at its peak, transfers at the bandwidth of the slowest link, nothing overlapped. Bubbles are
those of 1F1B with stages that are equally long (Narayanan et al., PipeDream-2BW, section 2). What was measured stands
beside it where this project has measured it, on emulated devices (`results/memory`, `results/schedules`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from conformance.cases.plannable import Layout
from conformance.contract.mesh import Mesh
from conformance.planner.asking import Asked, question
from conformance.planner.estimate import Estimate, estimate
from conformance.records.formatting import binary_bytes
from suites.planning.measured_here import NOT_HERE, Measurements


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is said, what plans say, what was measured, whether it holds, and where."""

    claim: str
    found: str
    measured: str
    holds: str
    conditions: str


def _at(model: str, mesh: str, rows: int, length: int, microbatches: int = 1, recompute: str = "layer") -> Estimate:
    """The estimate of one layout, whether it fits or not."""
    where = Mesh.parse(mesh)
    wanted = question(Asked(model=model, devices=where.devices, rows=rows, length=length))
    layout = Layout(mesh=where, microbatches=microbatches, recompute=recompute)
    return estimate(wanted, layout, wanted.family.footprint(wanted.training, layout))


def _activations(each: Estimate) -> int:
    """Temporaries that are no stacks of parameters or gradients: what a batch of no rows would not need."""
    footprint = each.footprint
    return footprint.temporary_bytes - 2 * footprint.gradient_bytes


def claims(here: Measurements) -> Iterator[Claim]:
    """Every claim, beside our own figures."""
    yield _checkpointing(here)
    yield _accumulation(here)
    yield from _bubbles(here)
    yield _returns()
    yield _tensor()
    yield _microbatches()
    yield _communication()


def _checkpointing(here: Measurements) -> Claim:
    kept, again = (_at("8B", "fsdp=8", 16, 4096, recompute=policy) for policy in ("none", "layer"))
    memory = again.footprint.temporary_bytes / kept.footprint.temporary_bytes
    time = again.compute_seconds / kept.compute_seconds - 1
    return Claim(
        claim="checkpointing halves memory and costs about 30 % time",
        found=f"temporaries become {memory:.0%} of {binary_bytes(kept.footprint.temporary_bytes)}, "
        f"products {time:+.0%}",
        measured=here.checkpointing(),
        holds="time by its products yes, memory far more than half" if memory < 0.4 and 0.2 <= time <= 0.35 else "no",
        conditions="8B on fsdp=8, 16 rows of 4,096 tokens, every layer again; scores of attention are materialised",
    )


def _accumulation(here: Measurements) -> Claim:
    steps = {k: _at("8B", "fsdp=8", 64, 4096, k) for k in (2, 4, 8)}
    halves = [_activations(steps[2 * k]) / _activations(steps[k]) for k in (2, 4)]
    grown = _at("8B", "fsdp=8", 64, 4096).footprint
    return Claim(
        claim="accumulation over k slices divides activation memory by k",
        found=f"from 2 to 4 slices activations become {halves[0]:.0%}, from 4 to 8 {halves[1]:.0%}; of all temporaries "
        f"k=8 leaves {steps[8].footprint.temporary_bytes / grown.temporary_bytes:.0%}",
        measured=here.accumulation(),
        holds="yes" if all(half < 0.55 for half in halves) else "less: sums of gradients are held besides",
        conditions="8B on fsdp=8, 64 rows of 4,096 tokens; one more copy of the gradients is the price",
    )


def _bubbles(here: Measurements) -> Iterator[Claim]:
    shares = {(p, m): (p - 1) / (m + p - 1) for p, m in ((4, 8), (4, 16), (8, 16), (8, 32))}
    told = ", ".join(f"{p} stages and {m} microbatches {share:.0%}" for (p, m), share in shares.items())
    within = sum(0.2 <= round(share, 2) <= 0.3 for share in shares.values())
    yield Claim(
        claim="pipeline bubbles waste 20-30 %",
        found=told,
        measured=here.waiting(),
        holds=f"in {within} of {len(shares)} shapes",
        conditions="1F1B, stages equally long; by formula",
    )
    four, sixteen = 3 / (4 + 3), 3 / (16 + 3)
    yield Claim(
        claim="16 microbatches waste far less than 4",
        found=f"bubbles {sixteen:.0%} against {four:.0%}",
        measured=here.fewer_microbatches(),
        holds="yes" if sixteen < 0.5 * four else "no",
        conditions="4 stages, 1F1B; by formula",
    )


def _returns() -> Claim:
    rates = {n: n_rate(n) for n in (8, 16, 32, 64)}
    efficiency = {n: rate / (rates[8] * n / 8) for n, rate in rates.items()}
    told = ", ".join(f"{n} devices {share:.0%}" for n, share in efficiency.items())
    return Claim(
        claim="returns diminish beyond 8-16 devices",
        found=f"efficiency by that on 8: {told}",
        measured=NOT_HERE,
        holds="yes" if efficiency[64] < 0.9 * efficiency[8] else "no",
        conditions="8B, fsdp alone, 8 rows of 4,096 tokens a device; 8 devices share a node",
    )


def n_rate(devices: int) -> float:
    """Tokens per second."""
    each = _at("8B", f"fsdp={devices}", 8 * devices, 4096)
    return 8 * devices * 4096 / each.step_seconds


def _tensor() -> Claim:
    eight, mixed = _at("13B", "tensor=8", 64, 2048, 8), _at("13B", "fsdp=4,tensor=2", 64, 2048, 8)
    ratio = eight.step_seconds / mixed.step_seconds
    return Claim(
        claim="a tensor axis of 8 is worse than 2 x 4",
        found=f"tensor=8 takes {ratio:.2f} times as long as fsdp=4,tensor=2",
        measured=NOT_HERE,
        holds="yes" if ratio > 1.02 else "no",
        conditions="13B on one node of 8, 64 rows of 2,048 tokens, 8 microbatches",
    )


def _microbatches() -> Claim:
    four, sixteen = _at("13B", "fsdp=8", 128, 2048, 4), _at("13B", "fsdp=8", 128, 2048, 16)
    saved = 1 - sixteen.footprint.temporary_bytes / four.footprint.temporary_bytes
    return Claim(
        claim="16 microbatches are better than 4",
        found=f"temporaries {-saved:.0%}, a step {sixteen.step_seconds / four.step_seconds - 1:+.0%}: parameters are "
        "gathered for each",
        measured=NOT_HERE,
        holds=f"{'yes' if saved > 0 else 'no'} for memory, "
        f"{'yes' if sixteen.step_seconds < four.step_seconds else 'no'} for time",
        conditions="13B on fsdp=8, no pipeline, 128 rows of 2,048 tokens",
    )


def _communication() -> Claim:
    shares = {
        mesh: 1 - each.compute_seconds / each.step_seconds
        for mesh, each in (
            ("fsdp=8", _at("8B", "fsdp=8", 64, 4096)),
            ("fsdp=64", _at("8B", "fsdp=64", 512, 4096)),
            ("fsdp=8,tensor=8", _at("8B", "fsdp=8,tensor=8", 64, 4096)),
        )
    }
    told = ", ".join(f"{mesh} {share:.0%}" for mesh, share in shares.items())
    return Claim(
        claim="communication is below 20 % of a step",
        found=told,
        measured=NOT_HERE,
        holds=f"on {sum(share < 0.2 for share in shares.values())} of {len(shares)} meshes",
        conditions="8B, 8 rows of 4,096 tokens a device of data or fsdp; nothing overlapped, so at the most",
    )


def page(here: Measurements) -> Iterator[str]:
    """The lines of the table."""
    yield "# What guides claim, beside what plans say and what was measured\n"
    yield from (__doc__ or "").strip().splitlines()[2:]
    yield ""
    yield "| claim | plans say | measured here | holds | under which conditions |"
    yield "| --- | --- | --- | --- | --- |"
    for each in claims(here):
        yield f"| {each.claim} | {each.found} | {each.measured} | {each.holds} | {each.conditions} |"


def main(results: Path) -> None:
    """Write planning/claims.md in the folder of all published results."""
    path = results / "planning/claims.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(page(Measurements.read(results))) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
