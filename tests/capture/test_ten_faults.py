"""The torch part of the page `docs/your-trainer.md`, executed: eight ranks, and ten faults of its trainer."""

from __future__ import annotations

import sys
from pathlib import Path

from page import ROOT, TORCH, done, judged


def test_ten_faults_of_a_torch_trainer_are_killed_and_nine_axes_named(tmp_path: Path) -> None:
    """Under `torchrun` once, as the page says; the faults in ranks that are forked, which start ten times as fast."""
    sys.path.insert(0, str(ROOT / "docs/examples/trainer_torch"))
    from faults import FAULTS  # type: ignore[import-not-found]

    record, capture, judge = TORCH
    done(record, tmp_path)
    done(capture.replace("torchrun", f"{sys.executable} -m torch.distributed.run"), tmp_path)
    assert "1 pass - all as expected" in done(judge, tmp_path)
    trained = [f"-- --dp 2 --tp 4 --folder runs/{fault} --fault {fault}" for fault in FAULTS]
    ranks, trainer = Path(__file__).with_name("ranks.py"), ROOT / "docs/examples/trainer_torch/train.py"
    done(f"python -W ignore {ranks} 8 {trainer} {' '.join(trained)}", tmp_path)
    done(f"python -W ignore {ranks} 4 {trainer} -- --dp 1 --tp 4 --folder runs/narrow --fault mean-of-means", tmp_path)
    named = {}
    for fault in FAULTS:
        beside = ["runs/narrow"] if fault == "mean-of-means" else []
        verdicts = {record["implementation"]: record for record in judged(tmp_path, *beside, f"runs/{fault}")}
        record = verdicts[f"runs/{fault}"]
        assert record["verdict"] == "fail", fault
        assert all(other["verdict"] == "pass" for name, other in verdicts.items() if name == "runs/narrow")
        causes = next(check["diagnosis"] for check in record["checks"] if check["verdict"] == "fail")
        named[fault] = next((cause["axis"] for cause in causes if cause["axis"]), None)
    right = [fault for fault, axis in named.items() if axis == FAULTS[fault]]
    assert len(right) >= 9, named
    assert all(axis in (None, FAULTS[fault]) for fault, axis in named.items()), named
