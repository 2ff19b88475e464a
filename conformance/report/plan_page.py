"""A plan as one page for somebody who decides: does it fit, how fast is it, how is it divided, and what is proven."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from conformance.cases.plan_file import PlanFile
from conformance.records.files import write_whole
from conformance.records.formatting import binary_bytes, count, seconds
from conformance.report.plan_pictures import draw_memory, draw_sending, draw_time
from conformance.targets.chip import Chip, chip_of

MARGIN = 0.1  # of a device's memory, left to its libraries
DAY = 86400
GOAL = 10**12  # tokens
AXES = {
    "data": "{size} groups of devices hold the same parameters and work on different rows; gradients are summed",
    "fsdp": "{size} devices share what is stored of every parameter, and gather it layer by layer",
    "tensor": "each matrix is cut into {size}: so many devices work on the same rows at once",
    "sequence": "each row is cut into {size} parts of its tokens; keys and values are gathered",
    "expert": "the experts lie on {size} devices, and tokens are sent to those that they need",
    "pipeline": "the layers lie on {size} devices, one part behind the other",
}
RECOMPUTED = {
    "none": "Nothing is computed twice: all activations are kept for the backward pass.",
    "attention": "The scores of attention are computed again in the backward pass and not kept.",
    "layer": "Every layer is computed again in the backward pass; between layers alone activations are kept.",
}


def write_plan(plan: PlanFile, path: Path) -> Path:
    """Write the page beside the plan; pictures are a part of it."""
    chip = chip_of(plan.chip, str(path))
    usable = chip.memory_bytes * (1 - MARGIN)
    page = path.with_suffix(".html")
    text = _template().render(
        plan=plan,
        chip=chip,
        headline=headline(plan),
        known=plan.evidence is not None and plan.evidence.needed_bytes is not None,
        tiles=list(tiles(plan, chip)),
        division=list(division(plan, chip)),
        memory=_svg(lambda file: draw_memory(plan, usable, file)),
        time=_svg(lambda file: draw_time(plan, file)),
        sending=_svg(lambda file: draw_sending(plan, file)) if plan.devices > 1 else "",
        evidence=list(evidence(plan, chip)),
        file=path.name,
    )
    write_whole(page, text)
    return page


def headline(plan: PlanFile) -> str:
    needed = plan.evidence.needed_bytes if plan.evidence else None
    known = "fits" if needed is not None else "is expected to fit"
    return f"{plan.asked} {known} on {count(plan.devices, 'device')}: {seconds(plan.predicted.step_seconds)} a step"


def tiles(plan: PlanFile, chip: Chip) -> Iterator[tuple[str, str]]:
    """(figure, what it is)."""
    predicted = plan.predicted
    rate = plan.rows * plan.length / predicted.step_seconds
    needed = (plan.evidence.needed_bytes if plan.evidence else None) or predicted.needed_bytes
    yield f"{rate:,.0f}", "tokens a second, by the cost model"
    yield f"{GOAL / rate / DAY:,.1f} days", "for a trillion tokens, at that rate without a pause"
    yield f"{binary_bytes(needed)}", f"of {binary_bytes(int(chip.memory_bytes * (1 - MARGIN)))} of a device"
    yield (
        f"{predicted.compute_seconds / predicted.step_seconds:.0%}",
        "of a step are matrix products at its peak",
    )


def division(plan: PlanFile, chip: Chip) -> Iterator[str]:
    """How the model and its batch are divided, a sentence each."""
    inner = 1
    for axis, size in reversed(plan.layout.mesh.sizes):
        inner *= size
        if size > 1:
            where = "within a node" if inner <= chip.devices_per_node else "between nodes"
            yield f"{axis} = {size}, {where}: {AXES.get(axis, 'what it divides its program says').format(size=size)}."
    slices = "at once" if plan.microbatches == 1 else f"in {plan.microbatches} microbatches, one after the other"
    if plan.schedule:
        waits = plan.predicted.bubble_seconds / plan.predicted.step_seconds
        yield f"Microbatches pass these parts by the schedule {plan.schedule}: {waits:.0%} of a step is waiting."
    yield f"A step takes {plan.rows:,} rows of {plan.length:,} tokens; the rows of a device {slices}."
    yield RECOMPUTED.get(plan.recompute, f"Recomputation: {plan.recompute}.")


def evidence(plan: PlanFile, chip: Chip) -> Iterator[str]:
    """What is measured, compiled, or a model alone."""
    compiled = plan.evidence
    if compiled is None:
        yield "No program of this plan was compiled: every figure is a prediction."
    elif compiled.needed_bytes is None:
        yield (
            f"Compiled at the level {compiled.level}: parameters and slots are as predicted; the memory of everything "
            "else is a prediction, taken to be 25 % larger where it was decided whether the plan fits."
        )
    else:
        yield (
            f"Memory was read from the program as compiled for {chip.name}: {binary_bytes(compiled.needed_bytes)}; "
            f"{binary_bytes(plan.predicted.needed_bytes)} was predicted."
        )
    yield "Seconds are those of a cost model: no step was timed on such devices."
    yield f"The same program, small, is held against a single-device reference: {plan.proof}."
    if compiled is not None:
        yield from (f"Beyond its budget: {sentence}" for sentence in compiled.findings)


def _svg(draw: Callable[[Path], None]) -> Markup:
    """A picture as a part of the page."""
    with tempfile.TemporaryDirectory(prefix="shardproof-picture-") as folder:
        path = Path(folder) / "picture.svg"
        draw(path)
        text = path.read_text(encoding="utf-8")
    return Markup(text[text.index("<svg") :])


@cache
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("conformance", "report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("plan.html")
