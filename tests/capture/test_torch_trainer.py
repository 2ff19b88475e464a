"""The torch part of the page `docs/your-trainer.md`, executed on eight ranks, with three faults of its trainer."""

from __future__ import annotations

from pathlib import Path

from torch_trainer import RIGHT, told

HERE = ("bias-per-rank", "same-rows", "reduce-bfloat16")  # one per axis, and the one whose axis cannot be seen


def test_a_torch_trainer_passes_and_its_faults_are_killed_with_their_axis(tmp_path: Path) -> None:
    said = {row.fault: row for row in told(tmp_path, HERE)}
    assert {fault: row.verdict for fault, row in said.items()} == {RIGHT: "pass"} | dict.fromkeys(HERE, "fail")
    assert {fault: row.named for fault, row in said.items()} == {
        RIGHT: None, "bias-per-rank": "tp", "same-rows": "dp", "reduce-bfloat16": None,
    }  # fmt: skip
