"""`python -m suites.memory.measure.at_target FOLDER`: checkpointing policies in the optimized program of an H100.

Batch 32, sequence 512, hidden 1024, 16 heads, compiled for the eight chips of a node and run on none of them. What is
kept for the backward pass shows in the temporaries of that program, what is computed again in its products.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conformance.contract.mesh import Mesh
from conformance.records.formatting import binary_bytes
from suites.memory.measure.programs import POLICIES, measured

CHIP, MESH = "h100", "data=4,tensor=2"
Row = dict[str, Any]


def figures() -> list[Row]:
    """One row for each policy; bytes and operations are of one device and one step."""
    from conformance.targets.chip import CHIPS
    from conformance.targets.devices import target_mesh, why_no_target

    if why := why_no_target(CHIPS[CHIP]):
        sys.exit(f"The level target is not compiled: {why}.")
    mesh = Mesh.parse(MESH)
    devices = target_mesh(mesh, CHIPS[CHIP])
    rows = []
    for policy in POLICIES:
        rows.append(_compiled(policy, mesh, devices))
        print(f"{policy}: {binary_bytes(rows[-1]['temporaries'])}", file=sys.stderr, flush=True)
    return rows


def _compiled(policy: str, mesh: Mesh, devices: Any) -> Row:
    from conformance.targets.chip import CHIPS
    from conformance.targets.compiled import compile_step
    from conformance.traffic.hlo_flops import product_flops
    from conformance.traffic.hlo_module import read_module

    compiled = compile_step(_lowered(policy, mesh, devices), CHIPS[CHIP].platform)
    spilled = compiled.argument_bytes + compiled.output_bytes - compiled.alias_bytes
    return {
        "policy": policy,
        "temporaries": compiled.temporary_bytes,
        "needed": spilled + (compiled.temporary_bytes or 0),
        "products": sum(product_flops(read_module(compiled.partitioned)).values()),
    }


def _lowered(policy: str, mesh: Mesh, devices: Any) -> Any:
    import jax
    from jax.sharding import NamedSharding

    from suites.memory.jax_manual.model import LanguageModel
    from suites.memory.measure.in_jax import state_shapes

    made: Any = LanguageModel(measured("wide", recompute=policy), mesh, "float32")
    made.settle(devices)
    batch = {
        key: jax.ShapeDtypeStruct(
            value.shape, value.dtype, sharding=NamedSharding(devices, made.spec(made.batch_placements(key)))
        )
        for key, value in made.contract.example.items()
    }
    return made.program.lower(state_shapes(made), batch)


def page(rows: Sequence[Row]) -> str:
    """The figures as a table, each beside that of no policy."""
    kept = next(row for row in rows if row["policy"] == "none")
    lines = [
        "# Checkpointing policies in the program of a chip\n",
        "Made by `python -m suites.memory.measure.at_target`. Batch 32, sequence 512, hidden 1024, 16 heads, 4 layers,",
        f"products in bfloat16, on {MESH}: compiled for {CHIP}, of which none is there. Temporaries and what is needed",
        "in all are of the chip's optimized program (level target), operations of matrix products of the partitioned",
        "one; all are of one device and one step. No policy changes a gradient: the suite `memory` holds each to the",
        "float64 reference.\n",
        "| policy | temporaries | of none | needed | products | of none |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        less, more = row["temporaries"] / kept["temporaries"], row["products"] / kept["products"]
        sizes = f"{binary_bytes(row['temporaries'])} | {less:.0%} | {binary_bytes(row['needed'])}"
        lines.append(f"| {row['policy']} | {sizes} | {row['products'] / 1e9:.1f} GFLOP | {more:.0%} |")
    return "\n".join(lines) + "\n"


def main(folder: Path) -> None:
    rows = figures()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "target.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (folder / "target.md").write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    os.environ["JAX_PLATFORMS"] = "cpu"
    main(Path(sys.argv[1]))
