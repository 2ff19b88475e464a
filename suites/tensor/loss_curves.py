"""`python -m suites.tensor.loss_curves FOLDER`: losses that no eye can tell apart, and what the suite says of them.

A language model learns real text in float32: the single-device reference, the conforming tensor-parallel program, and
the same with one bug planted in it. Beside the curves stands the judgement of the first step of both programs.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from conformance.cases.case import Case
from conformance.cases.resolve import Target, resolve
from conformance.contract.mesh import Mesh
from conformance.records.formatting import number
from conformance.records.results import CaseResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONTRACT, IMPLEMENTATION, MESH = "tensor/language_model_text", "jax-shard_map", Mesh.parse("data=2,tensor=4")
FAULT = "suites.tensor.faults.reductions:ReplicatedGradientReducedTwice"
BUG = "the gradient of each norm is summed once too often"
STEPS = 300
SMOOTHED = 15  # steps, in the picture: a batch of 8 rows is noisy
COLOURS = {"reference": "#4a4e57", "conforming": "#1d6fb8", "with the bug": "#c8641e"}


def losses(steps: int) -> dict[str, list[float]]:
    """Loss per step of the three, from the same parameters over the same batches."""
    import jax

    from conformance.workers.lookup import load

    target = resolve(_case())
    contract = target.contract
    devices = np.array([jax.devices()[device] for device in MESH.device_order]).reshape(MESH.shape)
    mesh = jax.sharding.Mesh(devices, MESH.axes, axis_types=(jax.sharding.AxisType.Auto,) * len(MESH.axes))
    conforming = load(target.path)
    planted = type("Planted", (load(FAULT), conforming), {})
    parameters, batches = contract.parameters(0), contract.batches(0, steps)
    reference = load(contract.references["jax"])(contract, "float32")
    programs = {"reference": (reference, reference.place(dict(parameters)))}
    for name, program in (("conforming", conforming), ("with the bug", planted)):
        made = program(contract, MESH, "float32")
        programs[name] = (made, made.place(dict(parameters), mesh))
    return {name: _trained(program, state, batches) for name, (program, state) in programs.items()}


def _trained(program: Any, state: Any, batches: list[dict[str, np.ndarray]]) -> list[float]:
    seen = []
    for batch in batches:
        state, observed = program.step(state, dict(batch))
        seen.append(float(np.asarray(observed["loss"])))
    return seen


def _case() -> Case:
    return Case(contract=CONTRACT, implementation=IMPLEMENTATION, mesh=MESH, dtype="float64")


def judged(fault: str | None) -> CaseResult:
    """The case of the suite, with or without the bug."""
    from conformance.runner.run import CaseRunner
    from conformance.workers.pool import Workers

    target = resolve(_case())
    with Workers(jax_devices=MESH.devices) as workers:
        runner = CaseRunner(workers=workers, bisect=False)
        return runner.judge_case(
            _case(), Target(contract=target.contract, framework=target.framework, path=target.path, fault=fault)
        )


def said(result: CaseResult) -> dict[str, Any]:
    """What the check of the first step says."""
    [logic] = [check for check in result.checks if check.check == "logic"]
    assert logic.worst is not None
    cause = f"{logic.diagnosis[0].cause}, axis {logic.diagnosis[0].axis}" if logic.diagnosis else ""
    return {
        "verdict": result.verdict,
        "first": logic.first,
        "worst": logic.worst.tensor,
        "error": logic.worst.error,
        "bound": logic.worst.bound,
        "cause": cause,
    }


def draw(curves: Mapping[str, list[float]], verdicts: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Left the losses, right error / bound of the first step."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "shardproof"
    from matplotlib import pyplot

    drawing, (left, right) = pyplot.subplots(
        1, 2, figsize=(11, 4.2), layout="constrained", gridspec_kw={"width_ratios": [3, 2]}
    )
    _draw_losses(left, curves)
    _draw_verdicts(right, verdicts)
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    drawing.savefig(path, metadata={"Date": None})
    pyplot.close(drawing)


def _draw_losses(panel: Axes, curves: Mapping[str, list[float]]) -> None:
    for (name, curve), style in zip(curves.items(), ("-", "--", ":"), strict=True):
        smooth = np.convolve(curve, np.ones(SMOOTHED) / SMOOTHED, mode="valid")
        panel.plot(np.arange(len(smooth)) + SMOOTHED, smooth, style, color=COLOURS[name], label=name, linewidth=2)
    panel.set(xlabel="step", ylabel="loss, nats per byte", title="What people look at: the loss")
    panel.legend(frameon=False)


def _draw_verdicts(panel: Axes, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
    names = list(verdicts)
    ratios = [verdicts[name]["error"] / verdicts[name]["bound"] for name in names]
    panel.bar(names, ratios, color=[COLOURS[name] for name in names], width=0.5)
    panel.axhline(1, color="#4a4e57", linewidth=1)
    panel.set(yscale="log", ylabel="error / bound, worst tensor", title="What the suite says after one step")
    for place, name in enumerate(names):
        panel.text(place, 1.6 * max(ratios[place], 1), verdicts[name]["verdict"], ha="center")
    panel.set_ylim(min(ratios) / 10, max(ratios) * 30)


def page(curves: Mapping[str, list[float]], verdicts: Mapping[str, Mapping[str, Any]]) -> str:
    """The picture in words and figures."""
    last = {name: float(np.mean(curve[-50:])) for name, curve in curves.items()}
    bug, conforming = verdicts["with the bug"], verdicts["conforming"]
    held = conforming["error"] / conforming["bound"]
    rows = "\n".join(f"| {name} | {curve[0]:.4f} | {last[name]:.4f} |" for name, curve in curves.items())
    return f"""# Loss curves

![Three losses, and the judgement of the first step](loss.svg)

A language model of three layers reads source text, {STEPS} steps of AdamW in float32 on `{MESH}`. In one of the
programs {BUG}. Made by `python -m suites.tensor.loss_curves results/loss_curves`.

| program | loss of the first step | mean of the last 50 |
| --- | --- | --- |
{rows}

The suite says after one step: `{bug["first"]}`. The worst tensor is off by {number(bug["error"])}, the bound is
{number(bug["bound"])}; likely: {bug["cause"]}. The conforming program is at {held:.2f} of its bound.
"""


def main(folder: Path) -> int:
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={MESH.devices}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    folder.mkdir(parents=True, exist_ok=True)
    verdicts = {name: said(judged(fault)) for name, fault in (("conforming", None), ("with the bug", FAULT))}
    curves = losses(STEPS)
    draw(curves, verdicts, folder / "loss.svg")
    (folder / "README.md").write_text(page(curves, verdicts))
    (folder / "figures.json").write_text(json.dumps({"losses": curves, "judged": verdicts}) + "\n")
    return 0 if [verdict["verdict"] for verdict in verdicts.values()] == ["pass", "fail"] else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
