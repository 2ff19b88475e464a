"""Bugs of the programs in this folder, as people write them: the best cause says why, and on which axis."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from conformance.cli.main import app

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Bug:
    """A program of this folder, where it is run, and how the best cause that is said of it begins, with the axis."""

    file: str
    contract: str
    mesh: str
    cause: str
    axis: str | None = None


BUGS = (
    Bug(
        file="smoothing_of_a_shard",  # the mean over a part of the vocabulary
        contract="tensor/vocabulary",
        mesh="data=2,tensor=2",
        cause="the mean of each rank's own part is used where that of all parts over tensor is meant",
        axis="tensor",
    ),
    Bug(
        file="scale_of_local_heads",  # 1 / sqrt(hidden / heads of this device)
        contract="tensor/layer_coincident",
        mesh="data=2,tensor=2",
        cause="multiplied by another number than on one device, 0.7071 times that",
        axis="tensor",
    ),
    Bug(
        file="key_head_by_remainder",  # rank % key heads, in place of rank // (ranks of a key head)
        contract="tensor/attention_gqa_headnorm",
        mesh="data=2,tensor=4",
        cause="shards permuted: ranks of tensor hold those of [0, 2, 0, 2]",
        axis="tensor",
    ),
    Bug(
        file="zigzag_in_one_run",  # rotary positions of a contiguous block, where a device has two chunks
        contract="sequence/attention",
        mesh="data=2,sequence=2",
        cause="right rows, of other places than those that they are combined with",
        axis="sequence",
    ),
    Bug(
        file="late_chunk_too_late",  # chunk 2n - i in place of 2n - 1 - i
        contract="sequence/attention",
        mesh="sequence=4",
        cause="positions 8, 9 are nobody's",
        axis="sequence",
    ),
    Bug(
        file="masks_by_site_alone",  # recomputed with the masks of the microbatch that went forward last
        contract="pipeline/dropout_recomputed",
        mesh="pipeline=2",
        cause="another mask than on one device",
        axis="pipeline",
    ),
    Bug(
        file="last_in_first_out",  # the backward pass takes what was saved last
        contract="pipeline/perceptron",
        mesh="pipeline=4",
        cause="values of two turns are combined, of two microbatches perhaps",
        axis="pipeline",
    ),
    Bug(
        file="losses_of_early_stages",  # auxiliary losses have no gradient where the stage is not the last
        contract="hybrid/staged_mixture",
        mesh="expert=2,pipeline=2",
        cause="terms of the sum are missing",
        axis="pipeline",
    ),
    Bug(
        file="root_unit_divides",  # FSDP2's own factor for the gradients of the root unit
        contract="hybrid/scanned",
        mesh="fsdp=2,tensor=2",
        cause="reduction missing, or a mean where a sum is meant",
        axis="fsdp",
    ),
    Bug(
        file="muon_scale_of_a_shard",  # the shape of a shard in place of that of the matrix
        contract="data/muon",
        mesh="data=2,fsdp=4",
        cause="multiplied by another number than on one device, 1.549 times that",
        axis="fsdp",
    ),
    Bug(
        file="deferred_last_in_first_out",  # weight gradients with the output gradient of another microbatch
        contract="pipeline/replicas",
        mesh="data=2,pipeline=4",
        cause="values of two turns are combined, of two microbatches perhaps",
        axis="pipeline",
    ),
    Bug(
        file="routed_part_before_the_sum",  # what is whole is added to partial sums of the shared expert
        contract="moe/balanced",
        mesh="expert=2,tensor=4",
        cause="counted 4 times: what is whole on every rank is added to a partial sum",
        axis="tensor",
    ),
    Bug(
        file="masks_by_count_of_draws",  # recomputed with the masks of other sites
        contract="data/dropout_recomputed",
        mesh="data=2,tensor=2",
        cause="another mask than on the reference",
    ),
    Bug(
        file="gates_of_biased_scores",
        contract="moe/balanced",
        mesh="data=2,expert=2",
        cause="another value than on the reference is used: operand 0 of reduce_sum",
    ),
    Bug(
        file="remat_without_dropout",
        contract="data/dropout_recomputed",
        mesh="data=2,fsdp=2",
        cause="left out: select_n at reference/jax/dropout.py",
    ),
    Bug(
        file="epsilon_before_correction",  # Adam's epsilon-hat
        contract="data/language_model",
        mesh="data=2,fsdp=2",
        cause="in another order: div at reference/jax/optimizers.py",
    ),
    Bug(
        file="corrected_by_slices",  # Adam's moments are corrected by the number of slices
        contract="data/checkpoint",
        mesh="data=2,fsdp=2",
        cause="raised to 3 times the power that the reference raises to",
    ),
    Bug(
        file="scale_of_queries",
        contract="tensor/attention_gqa_headnorm",
        mesh="tensor=2",
        cause="another parameter than on the reference is used: mul",
    ),
    Bug(
        file="groups_by_remainder",
        contract="sequence/attention",
        mesh="sequence=4",
        cause="right rows are multiplied with other rows than on one device",
        axis="sequence",
    ),
    Bug(
        file="one_place_more",
        contract="moe/gshard",
        mesh="expert=4",
        cause="another mask than on the reference: where",
    ),
    Bug(
        file="labels_of_the_microbatch_before",
        contract="pipeline/language_model_untied",
        mesh="pipeline=4",
        cause="a value of another microbatch, or a stale one, is used: operand 1 of gather",
        axis="pipeline",
    ),
    Bug(
        file="messages_in_bfloat16",
        contract="pipeline/perceptron",
        mesh="pipeline=4",
        cause="computed in bfloat16: convert_element_type",
        axis="pipeline",
    ),
    Bug(
        file="skips_without_gradient",  # on one device too, in microbatches, which the reference has not
        contract="pipeline/perceptron_skips",
        mesh="pipeline=4",
        cause="a term of the sum is missing: add_any",
    ),
    Bug(
        file="norm_of_both_ends",
        contract="hybrid/staged_context",
        mesh="pipeline=2,sequence=2",
        cause="'gradients/embedding.weight' is counted 2 times in the norm",
        axis="pipeline",
    ),
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS, ids=[bug.file for bug in BUGS])
def test_the_best_cause_is_right(bug: Bug, tmp_path: Path) -> None:
    program = f"{HERE / bug.file}.py:Program"
    where = ["--contract", bug.contract, "--implementation", program, "--mesh", bug.mesh, "--dtype", "float64"]
    CliRunner().invoke(app, ["run", *where, "--output", str(tmp_path / "run")])
    [record] = map(json.loads, (tmp_path / "run" / "cases.jsonl").read_text().splitlines()[:1])
    assert record["verdict"] == "fail"
    causes = [cause for check in record["checks"] for cause in check["diagnosis"]]
    best = max(causes, key=lambda cause: cause["confidence"])
    assert best["cause"].startswith(bug.cause)
    assert (best["axis"], best["place"]) == (bug.axis, False)
