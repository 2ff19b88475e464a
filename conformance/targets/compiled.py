"""A step compiled from shapes: the partitioned program, the optimized program of the chip, and the bytes it needs.

The partitioned program is in XLA's dump behind the SPMD partitioning, where dtypes are true and every operation still
has its name. A program of one device is not partitioned: the one that XLA was given takes its place. Nothing of the
program of the CPU backend is ever read: it widens and loses collectives.

The compiler of a TPU refuses a program that does not fit, and says what it would need.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conformance.traffic.collective_op import Level

_REMATERIALIZED = re.compile(r"\[SPMD\] Involuntary full rematerialization.*?(?=\n|$)")
_PASS = "spmd-partitioning"
_BEHIND = re.compile(rf"after_(tpu-)?{_PASS}")
_GIVEN = ".before_optimizations.txt"
_OPTIONS: Mapping[str, dict[str, Any]] = {
    "": {"xla_backend_optimization_level": 0},
    "cuda": {"xla_gpu_autotune_level": 0},
    "tpu": {},
}
_REFUSED = re.compile(r"RESOURCE_EXHAUSTED: .*?\(?([\d.]+)([KMG])\)? (?:exceeds|of [\d.]+[KMG] hbm)")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_PARTITIONS = re.compile(r"\bnum_partitions=")  # which XLA says of more than one


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """Bytes are per device.

    level            target where the chip's own program was made, else partitioned
    partitioned      HLO text behind the partitioner
    optimized        HLO text of the chip; empty at the level partitioned
    argument_bytes   of the state and the batch
    output_bytes     of the new state and the observations
    alias_bytes      outputs that lie where donated arguments lay
    temporary_bytes  of everything in between, as the chip would need it; None at the level partitioned
    refused_bytes    that the chip's compiler says are needed, to one part in a thousand, where it refuses the program
                     because it does not fit: then nothing is known of the chip's program, and bytes above are 0
    rematerialized   what the partitioner says that it had to gather whole, sentence by sentence
    """

    level: Level
    partitioned: str
    optimized: str
    argument_bytes: int
    output_bytes: int
    alias_bytes: int
    temporary_bytes: int | None
    refused_bytes: int | None = None
    rematerialized: tuple[str, ...]
    seconds: float


def compile_step(lowered: Any, platform: str = "") -> Compiled:
    """Compile a step that was lowered from shapes with shardings (`jax.stages.Lowered`); no array is ever made.

    platform  of the chip whose devices the shardings are of; without one the level is partitioned
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="shardproof-hlo-") as folder:
        options = {"xla_dump_to": folder, "xla_dump_hlo_pass_re": _PASS, **_OPTIONS[platform]}
        with _stderr() as said:
            compiled = _compiled(lowered, options)
        partitioned = _dumped(Path(folder))
    return Compiled(
        level="target" if platform else "partitioned",
        partitioned=partitioned,
        **(_refused(compiled) if isinstance(compiled, int) else _of_chip(compiled, is_target=bool(platform))),
        rematerialized=tuple(dict.fromkeys(_REMATERIALIZED.findall(said[0]))),
        seconds=time.perf_counter() - started,
    )


def _compiled(lowered: Any, options: dict[str, Any]) -> Any:
    """The compiled step; where it does not fit, the bytes that the compiler says it needs."""
    from jax.errors import JaxRuntimeError

    try:
        return lowered.compile(compiler_options=options)
    except JaxRuntimeError as failure:
        refused = _REFUSED.search(str(failure))
        if refused is None:
            raise
        return int(float(refused[1]) * _UNITS[refused[2]])


def _of_chip(compiled: Any, *, is_target: bool) -> dict[str, Any]:
    memory = compiled.memory_analysis()
    return {
        "optimized": compiled.as_text() if is_target else "",
        "argument_bytes": memory.argument_size_in_bytes,
        "output_bytes": memory.output_size_in_bytes,
        "alias_bytes": memory.alias_size_in_bytes,
        "temporary_bytes": memory.temp_size_in_bytes if is_target else None,
    }


def _refused(needed: int) -> dict[str, Any]:
    nothing = dict.fromkeys(("argument_bytes", "output_bytes", "alias_bytes", "temporary_bytes"), 0)
    return {"optimized": "", **nothing, "refused_bytes": needed}


def _dumped(folder: Path) -> str:
    """The partitioned program; for one device XLA runs no partitioner, and the program that it was given is that."""
    paths = list(folder.iterdir())
    partitioned = [path for path in paths if _BEHIND.search(path.name)]
    [path] = partitioned or [path for path in paths if path.name.endswith(_GIVEN)]
    text = path.read_text(encoding="utf-8")
    if not partitioned and _PARTITIONS.search(text.partition("\n")[0]):
        raise RuntimeError("XLA wrote no program behind its partitioner, though it made one for several devices.")
    return text


@contextmanager
def _stderr() -> Iterator[list[str]]:
    """What the compiler writes to stderr meanwhile, which is of no use to people but for one sentence."""
    said = [""]
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            caught.seek(0)
            said[0] = caught.read().decode(errors="replace")
