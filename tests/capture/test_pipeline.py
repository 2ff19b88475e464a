"""A pipeline of torch, captured stage by stage, whose stages count their layers from 0."""

from __future__ import annotations

from pathlib import Path

from page import done, judged


def test_a_pipeline_passes_and_a_gradient_that_is_not_reduced_is_found_in_its_stage(tmp_path: Path) -> None:
    script, ranks = (Path(__file__).with_name(name) for name in ("pipeline.py", "ranks.py"))
    done(f"shardproof record --runs 4 --output runs/single -- python {script} runs/one", tmp_path)
    done(f"python -W ignore {ranks} 4 {script} -- runs/right -- runs/wrong --fault", tmp_path)
    right, wrong = judged(tmp_path, "runs/right", "runs/wrong")
    assert right["verdict"] == "pass"
    assert all(check["compared"] for check in right["checks"])
    first = next(check for check in wrong["checks"] if check["verdict"] == "fail")
    assert (first["first"], first["ranks"]) == ("step 1: gradients/layers.3.bias", [1, 3])
    assert first["diagnosis"][0]["axis"] == "dp"
