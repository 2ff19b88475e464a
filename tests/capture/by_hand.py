"""A trainer by hand, in numpy: a linear layer over `dp` (rows) and `tp` (columns), written down as captures write."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from conformance.capture.recording import Recording
from conformance.capture.records import FORMAT, RankRecord
from conformance.capture.writer import Part, Writer

ROWS, INPUTS, OUTPUTS, STEPS = 8, 6, 8, 2
MESH = {"dp": 2, "tp": 4}


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a run differs from the right one. `change` (tensor, rank, its local value) -> another value."""

    seed: int = 0
    steps: int = STEPS
    ended: dict[int, int] | None = None  # rank -> steps after which it died
    change: Callable[[str, int, np.ndarray], np.ndarray] = lambda name, rank, value: value
    says: Callable[[str], dict[str, str] | None] = lambda name: None
    rows: Callable[[int], int] = lambda data: data
    mesh: dict[str, int] | None = None
    clip_norm: float | None = None
    left_out: tuple[str, ...] = ()  # tensors that no rank hands over


def weights() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(INPUTS, OUTPUTS))


def batch(seed: int, step: int) -> np.ndarray:
    return np.random.default_rng([seed, step]).normal(size=(ROWS, INPUTS)).astype(np.float32)


def trained(
    x_by_step: list[np.ndarray], w: np.ndarray, dtype: str, clip_norm: float | None = None
) -> list[dict[str, np.ndarray]]:
    """The whole of every step: mean of squares, plain gradient descent, clipped where a threshold is given."""
    seen, w = [], w.astype(dtype)
    for x in x_by_step:
        x = x.astype(dtype)
        y = x @ w
        gradient = (x.T @ y * (2 / y.size)).astype(dtype)
        seen.append({"batch/x": x, "outputs/model": y, "loss": np.asarray((y**2).mean()).astype(dtype)})
        seen[-1] |= {"gradients/w": gradient}
        if clip_norm is not None:
            norm = np.asarray(np.sqrt((gradient**2).sum()), dtype)
            gradient = (gradient * min(1.0, clip_norm / norm)).astype(dtype)
            seen[-1] |= {"metrics/grad_norm": norm, "clipped/w": gradient}
        w = (w - np.asarray(0.1, dtype) * gradient).astype(dtype)
        seen[-1] |= {"parameters/w": w}
    return seen


def recorded(
    folder: Path, *, members: int = 4, seed: int = 0, drawn: bool = False, clip_norm: float | None = None
) -> Path:
    """A recording: the oracle in float64, members in float32 that are moved by one rounding, or draw other batches."""
    xs = [batch(seed, step) for step in range(STEPS)]
    _whole(folder / "oracle", xs, weights().astype(np.float32), "float64", 0, clip_norm)
    for member in range(members):
        rng = np.random.default_rng(member)
        xs = [batch(member, step) for step in range(STEPS)] if drawn else xs
        near = [x * (1 + rng.integers(-1, 2, x.shape) * 2.0**-23 * (member > 0)) for x in [*xs, weights().astype("f4")]]
        _whole(folder / f"member-{member}", near[:-1], near[-1], "float32", member, clip_norm)
    names = [f"member-{member}" for member in range(members)]
    Recording(format=1, command=["train"], oracle="float64", dtype="float32", members=names).write(folder)
    return folder


def captured(folder: Path, run: Run) -> Path:
    """What eight ranks write."""
    mesh = run.mesh or MESH
    steps = trained(
        [batch(run.seed, step) for step in range(run.steps)], weights().astype("f4"), "float32", run.clip_norm
    )
    for rank in range(mesh["dp"] * mesh["tp"]):
        died = (run.ended or {}).get(rank)
        writer = _writer(folder, rank, mesh, "float32", run.steps)
        _moment(writer, "start", {"parameters/w": weights().astype("f4")}, rank, run, mesh)
        for number, step in enumerate(steps[:died]):
            _moment(writer, f"step {number + 1}", step, rank, run, mesh)
        writer.update(finished=died is None)
    return folder


def _moment(writer: Writer, name: str, seen: dict[str, np.ndarray], rank: int, run: Run, mesh: dict[str, int]) -> None:
    data, tensor = divmod(rank, mesh["tp"])
    rows, columns = ROWS // mesh["dp"], OUTPUTS // mesh["tp"]
    own = slice(run.rows(data) * rows, (run.rows(data) + 1) * rows), slice(tensor * columns, (tensor + 1) * columns)
    cut: dict[str, Any] = {"batch/x": own[:1], "outputs/model": own, "loss": (), "metrics/grad_norm": ()}
    writer.open(name)
    for key, value in ((key, value) for key, value in seen.items() if key not in run.left_out):
        local = run.change(key, rank, np.ascontiguousarray(value[cut.get(key, (slice(None), own[1]))]))
        call = 0 if key.startswith(("batch/", "outputs/")) else None
        _add(writer, key, local, placements=run.says(key), call=call)
    writer.close()


def _whole(folder: Path, xs: list[np.ndarray], w: np.ndarray, dtype: str, member: int, clip_norm: float | None) -> None:
    writer = _writer(folder, 0, {"data": 1}, dtype, STEPS, member)
    for name, seen in [("start", {"parameters/w": w.astype(dtype)}), *_numbered(trained(xs, w, dtype, clip_norm))]:
        writer.open(name)
        for key, value in seen.items():
            _add(writer, key, value, call=0 if key.startswith(("batch/", "outputs/")) else None)
        writer.close()
    writer.update(finished=True)


def _numbered(steps: list[dict[str, np.ndarray]]) -> list[tuple[str, dict[str, np.ndarray]]]:
    return [(f"step {number}", step) for number, step in enumerate(steps, start=1)]


def _add(writer: Writer, name: str, value: np.ndarray, **said: Any) -> None:
    value = np.ascontiguousarray(value)
    content = memoryview(value.reshape(-1).view(np.uint8))
    part = Part(position=writer.record.positions[0], shape=value.shape, content=content)
    writer.add(name, str(value.dtype), value.shape, [part], **said)


def _writer(folder: Path, rank: int, mesh: dict[str, int], dtype: str, steps: int, member: int = 0) -> Writer:
    return Writer(
        folder,
        RankRecord(
            format=FORMAT, run="one", framework="torch", process=rank, processes=int(np.prod(list(mesh.values()))),
            mesh=mesh, positions=(rank,), command=["train"], member=member, dtype=dtype, given_dtype="float32",
            steps=steps,
        ),
    )  # fmt: skip
