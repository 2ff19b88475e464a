"""An automatic program behind the partitioner: compiled once for its text, which is kept beside compiled programs."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import jax

from conformance.contract.implementation import CollectiveKind, Phase
from conformance.contract.mesh import Mesh
from conformance.evidence.partitioned import Partitioned, Sent
from conformance.scale.record import Collective
from conformance.scale.sent import sent
from conformance.targets.compiled import compile_step
from conformance.traffic.hlo_flops import product_flops
from conformance.traffic.hlo_module import read_module
from conformance.workers.compiled import unkept


@dataclass(frozen=True, kw_only=True)
class Text:
    """HLO behind SPMD partitioning, and the sentences in which the partitioner says what it had to gather whole."""

    hlo: str
    rematerialized: tuple[str, ...]


def text_of(lowered: Any) -> Text:
    """Of a lowered step (`jax.stages.Lowered`). The same program is compiled for this once on a machine."""
    folder = jax.config.values.get("jax_compilation_cache_dir")
    known = Path(folder) / f"partitioned-{_name(lowered)}.json.gz" if folder else None
    if known is not None and (kept := _read(known)) is not None:
        return kept
    with unkept():
        compiled = compile_step(lowered)
    text = Text(hlo=compiled.partitioned, rematerialized=compiled.rematerialized)
    if known is not None:
        _write(known, text)
    return text


def partitioned(lowered: Any, text: Text, mesh: Mesh) -> Partitioned:
    """Its collectives. Raises UnattributedError where ranks, trips or element types cannot be read."""
    outputs = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(lowered.out_info)[0]]
    module = read_module(text.hlo)
    collectives = sent(module, mesh, "partitioned", outputs)
    flops = sum(product_flops(module).values())
    return Partitioned(sent=tuple(map(_sent, collectives)), rematerialized=text.rematerialized, flops=flops)


def _sent(collective: Collective) -> Sent:
    return Sent(
        kind=cast(CollectiveKind, collective.kind),
        axes=collective.axes,
        phase=cast(Phase, collective.phase),
        dtype=collective.dtype,
        calls=collective.launches,
        payload_bytes=collective.payload_bytes,
        wire_bytes=collective.wire_bytes,
        tensor=collective.tensor,
        where=collective.where,
    )


def _name(lowered: Any) -> str:
    return hashlib.sha256(lowered.as_text().encode()).hexdigest()[:32]


def _read(path: Path) -> Text | None:
    """What was kept; None where nothing was, or only half of it."""
    try:
        held = json.loads(gzip.decompress(path.read_bytes()))
        return Text(hlo=held["hlo"], rematerialized=tuple(held["rematerialized"]))
    except (OSError, EOFError, ValueError, KeyError):
        return None


def _write(path: Path, text: Text) -> None:
    content = json.dumps({"hlo": text.hlo, "rematerialized": text.rematerialized}).encode()
    half = path.with_suffix(".new")
    try:
        half.write_bytes(gzip.compress(content, 3))
        half.replace(path)
    except OSError:
        half.unlink(missing_ok=True)
