"""`python -m suites.collectives.measure.overlap FOLDER`: buckets and overlap in the schedule of an H100.

A data-parallel language model on the eight chips of a node, compiled and run on none of them. The compiler's own
combining of sums is turned off, so that what is launched is what the program says. What stands between the start of a
sum and its end may be computed while the sum is under way.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conformance.contract.contract import Precision, Recipe
from conformance.contract.mesh import Mesh
from conformance.records.formatting import binary_bytes
from reference.architecture import Architecture
from suites.training.contracts import contract

if TYPE_CHECKING:
    from conformance.traffic.hlo_schedule import Launch

CHIP, MESH, BUCKET_BYTES = "h100", "data=8", 2**20
MODEL = Architecture(
    kind="language_model", hidden=256, layers=2, num_heads=4, num_kv_heads=4, head_size=64, ffn=1024, vocabulary=1024,
    activation="gelu", norm="layer",
)  # fmt: skip
RECIPE = Recipe(optimizer="adamw", clip_norm=1.0, precision=Precision(compute="bfloat16"))
# A sum of fewer bytes is one of losses or of norms.
OF_GRADIENTS = 1024
OPTIONS = {
    "xla_gpu_autotune_level": 0,
    "xla_gpu_all_reduce_combine_threshold_bytes": 0,
    "xla_gpu_enable_latency_hiding_scheduler": True,
}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The sums of gradients of one program; `steps` are the computing instructions of the whole."""

    program: str
    steps: int
    launches: tuple[Launch, ...]

    @property
    def bytes(self) -> int:
        return sum(launch.bytes for launch in self.launches)

    @property
    def hidden(self) -> int:
        """Launches beside which something is computed."""
        return sum(launch.between > 0 for launch in self.launches)

    @property
    def during(self) -> int:
        """Computing instructions that may run while a sum is under way, each counted once."""
        covered = {step for launch in self.launches for step in range(launch.place, launch.end)}
        return len(covered)


def schedules() -> list[Schedule]:
    from conformance.targets.chip import CHIPS
    from conformance.targets.devices import target_mesh, why_no_target
    from suites.collectives.jax_manual import buckets
    from suites.data.jax_manual import data_parallel

    if why := why_no_target(CHIPS[CHIP]):
        sys.exit(f"The level target is not compiled: {why}.")
    devices = target_mesh(Mesh.parse(MESH), CHIPS[CHIP])
    programs = {
        "tensor by tensor": data_parallel.LanguageModel,
        "buckets behind the backward pass": buckets.LanguageModel,
        "buckets inside the backward pass": buckets.OverlappedLanguageModel,
    }
    scheduled = []
    for name, program in programs.items():
        large = type(program.__name__, (program,), {"bucket_bytes": BUCKET_BYTES})
        lowered = _lowered(large, devices)
        scheduled.append(_scheduled(name, lowered))
        print(f"{name}: {len(scheduled[-1].launches)} launches", file=sys.stderr, flush=True)
    return scheduled


def _lowered(program: Any, devices: Any) -> Any:
    import jax
    from jax.sharding import NamedSharding

    from suites.memory.measure.in_jax import state_shapes

    made = program(
        contract("collectives/overlap", "overlap", MODEL, RECIPE, rows=32, length=512), Mesh.parse(MESH), "float32"
    )
    made.settle(devices)
    batch = {
        key: jax.ShapeDtypeStruct(
            value.shape, value.dtype, sharding=NamedSharding(devices, made.spec(made.batch_placements(key)))
        )
        for key, value in made.contract.example.items()
    }
    return made.program.lower(state_shapes(made), batch)


def _scheduled(program: str, lowered: Any) -> Schedule:
    from conformance.traffic.hlo_module import read_module
    from conformance.traffic.hlo_schedule import computing, launches

    module = read_module(lowered.compile(compiler_options=OPTIONS).as_text())
    sums = tuple(launch for launch in launches(module) if launch.bytes >= OF_GRADIENTS)
    return Schedule(program=program, steps=computing(module), launches=sums)


def page(scheduled: Sequence[Schedule]) -> str:
    lines = [
        "# Buckets and overlap in the schedule of a chip\n",
        "Made by `python -m suites.collectives.measure.overlap`. A language model of 2 layers (hidden 256, 4 heads,",
        f"batch 32, sequence 512) on {MESH}, compiled for {CHIP} without the compiler's own combining of sums, with",
        f"its latency-hiding scheduler, and run nowhere. Buckets of {binary_bytes(BUCKET_BYTES)}. Computing steps",
        "are fusions, products and calls in the order of the optimized program (level target); what stands between the",
        "start of a sum and its end may run meanwhile. Bits are the same in all: the suite `collectives` says so.\n",
        "![what is computed while a sum is under way](overlap.svg)\n",
        "| program | sums | bytes | beside which something is computed | steps meanwhile | of all |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in scheduled:
        sums = f"{len(each.launches)} | {binary_bytes(each.bytes)} | {each.hidden} | {each.during} | {each.steps}"
        lines.append(f"| {each.program} | {sums} |")
    alike = [each.program for each in scheduled if each.launches == scheduled[-1].launches]
    if len(alike) > 1:
        lines.append(f"\nScheduled alike: {', '.join(alike)}. The order follows from what depends on what alone.")
    return "\n".join(lines) + "\n"


def draw(scheduled: Sequence[Schedule], file: Path) -> None:
    """A row for each schedule: from left to right its computing steps, a bar where a sum is under way."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"
    from matplotlib import pyplot

    figure, pane = pyplot.subplots(figsize=(10, 0.7 + 0.62 * len(scheduled)))
    for row, each in enumerate(scheduled):
        pane.plot([0, each.steps], [row, row], color="0.85", linewidth=8, solid_capstyle="butt", zorder=1)
        for number, launch in enumerate(each.launches):
            height = row - 0.14 + 0.28 * (number % 2)
            pane.plot([launch.place, launch.end], [height, height], color="#0072b2", linewidth=3, zorder=2)
            pane.plot([launch.place], [height], "|", color="#d55e00", markersize=7, zorder=3)
    pane.set_yticks(range(len(scheduled)), [each.program for each in scheduled], fontsize=8)
    pane.invert_yaxis()
    pane.set_xlabel("computing steps in the order of the program; orange: a sum begins, blue: it is under way")
    pane.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)
    pyplot.close(figure)


def main(folder: Path) -> None:
    scheduled = schedules()
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps([asdict(each) for each in scheduled], indent=1)
    (folder / "overlap.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "overlap.md").write_text(page(scheduled), encoding="utf-8")
    draw(scheduled, folder / "overlap.svg")


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    main(Path(sys.argv[1]))
