"""The figures of compiled plans as tables and sentences, the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from conformance.records.formatting import binary_bytes, count, seconds
from conformance.scale.record import Collective, ScaleRecord, busiest_sender

Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def verdict(record: ScaleRecord) -> str:
    """`pass`, or `fail` where there is a finding or it does not fit; a program alone is no proof that it fits."""
    return "fail" if record.findings or record.fits is False else "pass"


def memory_table(record: ScaleRecord) -> Table:
    """Bytes of one device by kind: exact from shapes, temporaries from the compiled program of the chip."""
    rows = [[kind, binary_bytes(size), "exact, from shapes and shardings"] for kind, size in record.held_bytes.items()]
    if record.level == "program":
        rows.extend(_live_rows(record))
    elif record.temporary_bytes is None:
        rows.append(["temporaries", "not known", f"level target is missing: {record.not_compiled}"])
    else:
        rows.append(["temporaries", binary_bytes(record.temporary_bytes), f"target {record.chip}"])
        rows.append(["needed", binary_bytes(record.needed_bytes or 0), f"target {record.chip}"])
    return ("memory of a device", "bytes", "level"), rows


def _live_rows(record: ScaleRecord) -> Iterator[list[str]]:
    """What lives besides, from a program that was dispatched on one rank."""
    yield ["temporaries", binary_bytes(record.temporary_bytes or 0), "program, live storages at their peak"]
    if record.kept_bytes is not None:
        yield ["kept for the backward pass", binary_bytes(record.kept_bytes), "program, live storages where it begins"]
    if record.gradient_bytes is not None:
        yield ["of them gradients", binary_bytes(record.gradient_bytes), "exact, behind the backward pass"]
    yield ["needed", binary_bytes(record.needed_bytes or 0), "program, live storages at their peak"]


def axes_table(record: ScaleRecord) -> Table:
    """What one device sends in a step, by level, axes, phase and kind."""
    rows: dict[tuple[str, str, str, str, str], list[int]] = {}
    for each in record.collectives:
        key = (each.level, "+".join(each.axes), each.phase or "step", each.kind, each.dtype)
        total = rows.setdefault(key, [0, 0, 0])
        for place, size in enumerate((each.launches, each.payload_bytes, each.wire_bytes)):
            total[place] += size
    ordered = sorted(rows.items(), key=lambda row: (row[0][0], -row[1][2]))
    return (
        ("level", "axes", "phase", "collective", "dtype", "launches", "payload", "on the wire"),
        [[*key, f"{n:,}", binary_bytes(payload), binary_bytes(wire)] for key, (n, payload, wire) in ordered],
    )


def stages_table(record: ScaleRecord) -> Table:
    """Every program of a pipeline that was compiled: bytes of one device, and what it sends in a step."""
    rows = []
    for each in record.stages:
        known = each.temporary_bytes is not None and each.needed_bytes is not None
        rows.append([
            f"{each.rank}" if each.ranks == 1 else f"{each.rank}, and for {count(each.ranks - 1, 'more rank')}",
            str(each.layers),
            binary_bytes(each.parameter_bytes),
            binary_bytes(each.optimizer_bytes),
            binary_bytes(each.temporary_bytes or 0) if known else "not known",
            binary_bytes(each.needed_bytes or 0) if known else "not known",
            binary_bytes(each.sent_bytes),
            f"{binary_bytes(each.message_bytes)} in {count(each.messages, 'message')}",
        ])  # fmt: skip
    head = ("rank", "layers", "parameters", "slots", "temporaries", "needed", "sent inside", "to its neighbours")
    return head, rows


def verdict_lines(record: ScaleRecord) -> Iterator[str]:
    """Findings, fit, roofline, proof and cost, a sentence each."""
    for finding in record.findings:
        yield f"{finding.check}: {finding.sentence}"
    yield fit_line(record)
    if record.roofline is not None:
        links = ", ".join(f"{axes} {seconds(value)}" for axes, value in _largest(record))
        yield (
            f"A step of {record.roofline.tokens:,} tokens takes at least {seconds(record.roofline.step_seconds)} on "
            f"{record.chip}: products {seconds(record.roofline.compute_seconds)}, on the wire {links}."
        )
    if record.stages:
        yield (
            "Memory is that of the rank that needs most, what is sent that of rank "
            f"{busiest_sender(record.stages).rank}, which sends most, times those of the slowest; besides, ranks wait "
            "for each other as the schedule says."
        )
    yield from record.notes
    yield f"Small, its program is compared with the reference: {record.proof}: {record.proof_verdict}."
    yield (
        f"Verdict: {verdict(record)}, {count(len(record.findings), 'finding')}. {_how(record)} in "
        f"{seconds(record.cpu_seconds)} of CPU time and {binary_bytes(record.peak_rss_bytes)}."
    )


def _how(record: ScaleRecord) -> str:
    if record.rank is None:
        return "Compiled"
    return f"One step of rank {record.rank}, {record.operations or 0:,} operations, dispatched and not computed"


def fit_line(record: ScaleRecord) -> str:
    """Whether it fits, with the margin; what is missing where it does not."""
    if record.needed_bytes is None or record.capacity_bytes is None:
        return f"Whether it fits is not known, since {record.not_compiled or 'no chip was named'}."
    usable = int(record.capacity_bytes * (1 - record.margin))
    needed = binary_bytes(record.needed_bytes)
    usual = f"{binary_bytes(usable)}, which is {record.chip} less {record.margin:.0%} for its libraries"
    if record.fits:
        return f"It fits: {needed} of {usual}."
    return f"It does not fit: {needed} of {usual}; {binary_bytes(record.needed_bytes - usable)} are missing."


def largest_table(record: ScaleRecord) -> Table:
    rows = []
    for tensor in record.largest:
        shape, over = "x".join(map(str, tensor.shape)), ", ".join(tensor.replicated_over)
        rows.append([f"{tensor.kind}/{tensor.name}", shape, tensor.dtype, binary_bytes(tensor.bytes), over])
    return ("tensor", "shape", "dtype", "on a device", "replicated over"), rows


def tensors_table(record: ScaleRecord, most: int = 16) -> Table:
    """The operations that send most, each with its tensor or its place."""
    own: list[Collective] = [each for each in record.collectives if each.level != "target"][:most]
    rows = [
        [each.tensor or each.where, each.kind, "+".join(each.axes), each.phase or "", binary_bytes(each.wire_bytes)]
        for each in own
    ]
    return ("tensor or place", "collective", "axes", "phase", "on the wire"), rows


def _largest(record: ScaleRecord) -> list[tuple[str, float]]:
    assert record.roofline is not None
    return sorted(record.roofline.communication_seconds.items(), key=lambda link: -link[1])[:3]
