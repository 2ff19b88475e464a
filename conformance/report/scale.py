"""The page of compiled plans: records as JSON, tables as Markdown, and a picture of memory and of bytes by axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from conformance.records.formatting import count
from conformance.report.scale_picture import draw
from conformance.report.scale_tables import (
    Table,
    axes_table,
    largest_table,
    memory_table,
    stages_table,
    tensors_table,
    verdict,
    verdict_lines,
)
from conformance.scale.record import ScaleRecord


def write(records: Sequence[ScaleRecord], folder: Path) -> Path:
    """Write a JSON file for each record, the page and the picture; return the page."""
    folder.mkdir(parents=True, exist_ok=True)
    for record in records:
        text = record.model_dump_json(indent=1)
        (folder / f"{_slug(record)}.json").write_text(f"{text}\n", encoding="utf-8")
    every = [ScaleRecord.model_validate_json(path.read_text(encoding="utf-8")) for path in _records(folder)]
    draw(every, folder / "scale.svg")
    page = folder / "README.md"
    page.write_text("\n".join(_page(every)) + "\n", encoding="utf-8")
    return page


def _records(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.json") if "-" in path.stem)


def _slug(record: ScaleRecord) -> str:
    place = record.mesh.replace(",", "_").replace("=", "")
    framework = "" if record.framework == "jax" else f"-{record.framework}"
    return f"{record.plan}-{place}-{record.chip or 'none'}{framework}"


def _page(records: Sequence[ScaleRecord]) -> Iterator[str]:
    yield "# Plans of production size"
    yield "\nCompiled or dispatched, never run. Every figure is of one device and one step, and says its level.\n"
    yield "![memory of a device, and bytes that it sends, by axis](scale.svg)\n"
    yield from _markdown(_summary(records))
    for record in records:
        yield f"\n## {record.plan} on {record.mesh}, in {record.framework}\n"
        yield f"{record.summary.capitalize()}; {record.parameters:,} parameters, {count(record.devices, 'device')}.\n"
        yield from (f"* {line}" for line in verdict_lines(record))
        stages = (stages_table(record),) if record.stages else ()
        for table in (memory_table(record), *stages, axes_table(record), tensors_table(record), largest_table(record)):
            yield ""
            yield from _markdown(table)


def _summary(records: Sequence[ScaleRecord]) -> Table:
    rows = []
    for record in records:
        cost = [f"{record.cpu_seconds:.1f}", f"{record.peak_rss_bytes / 1e9:.2f}"]
        where = [record.mesh, f"{record.devices:,}", record.chip or ""]
        rows.append([record.plan, record.framework, *where, verdict(record), *cost])
    return ("plan", "framework", "mesh", "devices", "chip", "verdict", "CPU seconds", "peak GB"), rows


def _markdown(table: Table) -> Iterator[str]:
    head, rows = table
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
