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

from conformance.capture.records import read_ranks

TRAINER = ROOT / "docs/examples/trainer_torch"
BESIDE = "mean-of-means"  # its axis shows beside a run without that axis

RIGHT = "none"  # the run without a fault, under `torchrun`

PAGE = """# A trainer of one's own, captured

The trainer of [docs/your-trainer.md](../../docs/your-trainer.md), unchanged but for the lines of the capture, with one
fault at a time, on 8 ranks (`dp=2, tp=4`) over gloo, judged offline by a recording of its single-device run; made by
`PYTHONPATH=. python tests/capture/torch_trainer.py results/capture`.

{killed} of {faults} faults killed, {axes} axes right, {wrong} wrong. A captured step took {least:.2f} to {most:.2f}
times the step without what its capture took, by the clocks of the ranks, all together; on one device {alone:.2f} times.

| fault | verdict | axis | axis named | seen first in | what is said | a captured step |
| --- | --- | --- | --- | --- | --- | --- |
{rows}
"""


@dataclass(frozen=True, kw_only=True)
class Said:
    """What was found of one fault; `cause` and `named` of the surest cause that names an axis, if one does.

    times   what a captured step took, in steps without the capture
    """

    fault: str
    verdict: str
    axis: str
    named: str | None
    first: str
    cause: str
    times: float

    @property
    def row(self) -> str:
        said = (self.fault, self.verdict, self.axis, self.named or "", self.first, self.cause, f"{self.times:.2f}")
        return f"| {' | '.join(said)} |"


def faults() -> Mapping[str, str]:
    """Fault -> the axis on which it lies."""
    sys.path.insert(0, str(TRAINER))
    from faults import FAULTS  # type: ignore[import-not-found]

    return dict(FAULTS)


def told(folder: Path, wanted: Sequence[str]) -> Iterator[Said]:
    """Record, capture and judge: the page's commands first, then these faults.

    Under `torchrun` once, as the page says; the faults in ranks that are forked, which start ten times as fast.
    """
    record, capture, _ = TORCH
    done(record, folder)
    done(capture.replace("torchrun", "python -m torch.distributed.run"), folder)
    yield _said(folder, RIGHT, "runs/tp4")
    trained = [f"-- --dp 2 --tp 4 --folder runs/{fault} --fault {fault}" for fault in wanted]
    ranks, trainer = Path(__file__).with_name("ranks.py"), "docs/examples/trainer_torch/train.py"
    done(f"python -W ignore {ranks} 8 {trainer} {' '.join(trained)}", folder)
    if BESIDE in wanted:
        done(f"python -W ignore {ranks} 4 {trainer} -- --dp 1 --tp 4 --folder runs/narrow --fault {BESIDE}", folder)
    yield from (_said(folder, fault, f"runs/{fault}") for fault in wanted)


def _said(folder: Path, fault: str, run: str) -> Said:
    beside = ["runs/narrow"] if fault == BESIDE else []
    records = {record["implementation"]: record for record in judged(folder, *beside, run)}
    assert all(other["verdict"] == "pass" for name, other in records.items() if name in beside)
    failed = [check for check in records[run]["checks"] if check["verdict"] == "fail"]
    causes = [cause for check in failed[:1] for cause in check["diagnosis"]]
    best = next((cause for cause in causes if cause["axis"]), causes[0] if causes else {"cause": "", "axis": None})
    return Said(
        fault=fault,
        verdict=records[run]["verdict"],
        axis=faults().get(fault, ""),
        named=best["axis"],
        first=failed[0].get("first") or "" if failed else "",
        cause=best["cause"],
        times=times(folder / run),
    )


def times(run: Path) -> float:
    """What a captured step took, in steps without the capture: of all ranks together."""
    costs = [rank.cost for rank in read_ranks(run)]
    steps, capture = sum(cost.steps for cost in costs), sum(cost.capture for cost in costs)
    return steps / (steps - capture)


def main(results: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        rows = list(told(Path(name), tuple(faults())))
        alone = times(Path(name) / "runs/single/member-0")
    planted = [row for row in rows if row.fault != RIGHT]
    said = PAGE.format(
        killed=sum(row.verdict == "fail" for row in planted),
        faults=len(planted),
        axes=sum(row.named == row.axis for row in planted),
        wrong=sum(row.named not in (None, row.axis) for row in planted),
        least=min(row.times for row in rows),
        most=max(row.times for row in rows),
        alone=alone,
        rows="\n".join(row.row for row in rows),
    )
    results.mkdir(parents=True, exist_ok=True)
    (results / "README.md").write_text(said)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
