"""The torch part of the page `docs/your-trainer.md`, executed on eight ranks, and faults of its trainer, judged.

`PYTHONPATH=. python tests/capture/torch_trainer.py results/capture` does all ten and writes the table.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from page import ROOT, TORCH, done, judged

TRAINER = ROOT / "docs/examples/trainer_torch"
BESIDE = "mean-of-means"  # its axis shows beside a run without that axis

HEAD = """# A trainer of one's own, captured

The trainer of [docs/your-trainer.md](../../docs/your-trainer.md), unchanged but for the lines of the capture, with one
fault at a time, on 8 ranks (`dp=2, tp=4`) over gloo, judged offline by a recording of its single-device run; made by
`PYTHONPATH=. python tests/capture/torch_trainer.py results/capture`.

| fault | verdict | axis | axis named | what is said |
| --- | --- | --- | --- | --- |
| none | pass | | | |
"""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was found of one fault; `cause` and `named` of the surest cause that names an axis, if one does."""

    fault: str
    verdict: str
    axis: str
    named: str | None
    cause: str


def faults() -> Mapping[str, str]:
    """Fault -> the axis on which it lies."""
    sys.path.insert(0, str(TRAINER))
    from faults import FAULTS  # type: ignore[import-not-found]

    return dict(FAULTS)


def told(folder: Path, wanted: Sequence[str]) -> Iterator[Said]:
    """Record, capture and judge: the page's commands first, which must pass, then these faults.

    Under `torchrun` once, as the page says; the faults in ranks that are forked, which start ten times as fast.
    """
    record, capture, judge = TORCH
    done(record, folder)
    done(capture.replace("torchrun", "python -m torch.distributed.run"), folder)
    assert "1 pass - all as expected" in done(judge, folder)
    trained = [f"-- --dp 2 --tp 4 --folder runs/{fault} --fault {fault}" for fault in wanted]
    ranks, trainer = Path(__file__).with_name("ranks.py"), "docs/examples/trainer_torch/train.py"
    done(f"python -W ignore {ranks} 8 {trainer} {' '.join(trained)}", folder)
    if BESIDE in wanted:
        done(f"python -W ignore {ranks} 4 {trainer} -- --dp 1 --tp 4 --folder runs/narrow --fault {BESIDE}", folder)
    yield from (_said(folder, fault) for fault in wanted)


def _said(folder: Path, fault: str) -> Said:
    beside = ["runs/narrow"] if fault == BESIDE else []
    records = {record["implementation"]: record for record in judged(folder, *beside, f"runs/{fault}")}
    assert all(other["verdict"] == "pass" for name, other in records.items() if name == "runs/narrow")
    failed = [check for check in records[f"runs/{fault}"]["checks"] if check["verdict"] == "fail"]
    causes = [cause for check in failed[:1] for cause in check["diagnosis"]]
    best = next((cause for cause in causes if cause["axis"]), causes[0] if causes else {"cause": "", "axis": None})
    return Said(
        fault=fault,
        verdict=records[f"runs/{fault}"]["verdict"],
        axis=faults()[fault],
        named=best["axis"],
        cause=best["cause"],
    )


def main(results: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = list(told(Path(folder), tuple(faults())))
    lines = [f"| {row.fault} | {row.verdict} | {row.axis} | {row.named or ''} | {row.cause} |" for row in rows]
    results.mkdir(parents=True, exist_ok=True)
    (results / "README.md").write_text(HEAD + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
