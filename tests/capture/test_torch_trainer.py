"""The torch part of the page `docs/your-trainer.md`, executed on eight ranks, with three faults of its trainer."""

from __future__ import annotations

import re
from pathlib import Path

from page import ROOT
from torch_trainer import faults, told

HERE = ("bias-per-rank", "same-rows", "reduce-bfloat16")  # one per axis, and the one whose axis cannot be seen


def test_a_torch_trainer_passes_and_its_faults_are_killed_with_their_axis(tmp_path: Path) -> None:
    said = {row.fault: row for row in told(tmp_path, HERE)}
    assert {fault: row.verdict for fault, row in said.items()} == dict.fromkeys(HERE, "fail")
    assert {fault: row.named for fault, row in said.items()} == {
        "bias-per-rank": "tp", "same-rows": "dp", "reduce-bfloat16": None,
    }  # fmt: skip


def test_of_the_ten_faults_all_are_killed_and_nine_axes_right() -> None:
    """The published table, which the command in `torch_trainer.py` makes."""
    rows = re.findall(
        r"^\| ([\w-]+) \| (\w+) \| (\w+) \| (\w*) \|", (ROOT / "results/capture/README.md").read_text(), re.M
    )
    assert {fault: axis for fault, _, axis, _ in rows} == faults()
    assert {verdict for _, verdict, _, _ in rows} == {"fail"}
    assert sum(axis == named for _, _, axis, named in rows) >= 9
    assert all(named in ("", axis) for _, _, axis, named in rows)
