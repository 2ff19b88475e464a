"""A small conforming case made by hand, in numpy alone, and ways to break it: what every check is tried on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from conformance.cases.case import Case
from conformance.contract.contract import Contract, Recipe
from conformance.contract.implementation import Declarations, Traffic
from conformance.contract.mesh import Mesh
from conformance.contract.placements import Placements, Shard, local_index
from conformance.evidence.comparison import CaseRun
from conformance.evidence.evidence import Block, Evidence, Observations, Observed, ReferenceResult

MESH = Mesh.parse("data=2,tensor=4")
LAYOUT: Mapping[str, Placements] = {"w": {"tensor": Shard(1)}, "b": {}}
SHAPES = {"w": (6, 8), "b": (8,)}
TRAFFIC = (Traffic(kind="all_reduce", axes=("data",), phase="update", calls=3, bytes=168),)
PLACED = {
    "outputs/y": {"data": Shard(0)},
    "gradients/w": LAYOUT["w"],
    "parameters/w": LAYOUT["w"],
    "optimizer/momentum/w": LAYOUT["w"],
}


def sharded(name: str, value: np.ndarray, mesh: Mesh = MESH) -> Observed:
    """A tensor as a conforming program leaves it on the ranks: identical copies are one block."""
    blocks: dict[tuple, list[int]] = {}
    for rank in range(mesh.devices):
        index = local_index(value.shape, PLACED.get(name, {}), mesh, rank)
        blocks.setdefault(tuple((part.start, part.stop) for part in index), []).append(rank)
    made = []
    for bounds, ranks in blocks.items():
        index = tuple(slice(low, high) for low, high in bounds)
        made.append(Block(ranks=tuple(ranks), index=index, value=np.array(value[index])))
    stored = {rank: block.value.nbytes for block in made for rank in block.ranks}
    return Observed(shape=value.shape, dtype=str(value.dtype), blocks=tuple(made), stored_bytes=stored)


def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Normal numbers in steps of 1/1024: sums and differences of a few of them are exact."""
    return np.round(rng.normal(size=shape) * 1024) / 1024


def contract(**changes: object) -> Contract:
    rng = np.random.default_rng(0)
    parameters = {name: draw(rng, shape) for name, shape in SHAPES.items()}
    made = Contract(
        name="made/up",
        summary="a linear layer",
        model=None,
        shapes=SHAPES,
        parameters=lambda seed: parameters,
        batches=lambda seed, steps: [],
        references={},
        recipe=Recipe(clip_norm=0.5, steps=2),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def reference() -> ReferenceResult:
    rng = np.random.default_rng(1)
    initial = contract().parameters(0)

    def step() -> dict[str, np.ndarray]:
        values = {"outputs/y": draw(rng, (16, 8)), "metrics/tokens": np.array(4.0), "loss": np.array(rng.uniform(1, 2))}
        values |= {f"gradients/{name}": draw(rng, SHAPES[name]) for name in ("b", "w")}
        values["metrics/grad_norm"] = np.sqrt(sum((values[f"gradients/{name}"] ** 2).sum() for name in SHAPES))
        values |= {f"updates/{name}": draw(rng, shape) for name, shape in SHAPES.items()}
        return values | {f"optimizer/momentum/{name}": draw(rng, shape) for name, shape in SHAPES.items()}

    oracle = (step(), step())
    noise = tuple(
        {name: 2e-16 * np.abs(rng.normal(size=value.shape)) for name, value in seen.items()} for seen in oracle
    )
    return ReferenceResult(oracle=oracle, noise=noise, initial=initial, decisions=({},) * len(oracle), flops=8000)


def case_run(
    change: Callable[[str, int, np.ndarray], np.ndarray] = lambda name, step, value: value, **evidence: object
) -> CaseRun:
    """A conforming exhibit; `change` alters what a tensor of a step holds before it is laid on the ranks."""
    made = reference()
    initial: Observations = {f"parameters/{n}": sharded(f"parameters/{n}", v) for n, v in made.initial.items()}
    steps = []
    for number, oracle in enumerate(made.oracle):
        step: Observations = {}
        for name, value in oracle.items():
            changed = change(name, number, value.copy())
            stored = name.replace("updates/", "parameters/")
            start = made.initial[name.removeprefix("updates/")] if stored != name else 0.0
            step[stored] = sharded(stored, start + changed)
        steps.append(step)
    base = Evidence(
        initial=initial,
        steps=tuple(steps),
        repeated=steps[0],
        devices=MESH.device_order,
        traffic=TRAFFIC,
        input_sensitivity={"inputs": True},
        flops=dict.fromkeys(range(8), 1000),
        declarations=Declarations(layout=LAYOUT, traffic=TRAFFIC, compute_axes=("data", "tensor")),
    )
    case = Case(contract="made/up", implementation="jax-made", mesh=MESH, dtype="float64")
    return CaseRun(case=case, contract=contract(), evidence=replace(base, **evidence), reference=made)  # type: ignore[arg-type]


def with_blocks(made: CaseRun, step: int, name: str, alter: Callable[[Block], Block]) -> CaseRun:
    """The exhibit with every block of one tensor, split by rank, passed through `alter`."""
    observed = made.evidence.steps[step][name]
    alone = [replace(block, ranks=(rank,)) for block in observed.blocks for rank in block.ranks]
    changed = replace(observed, blocks=tuple(alter(block) for block in alone))
    steps = list(made.evidence.steps)
    steps[step] = steps[step] | {name: changed}
    return replace(made, evidence=replace(made.evidence, steps=tuple(steps)))
