"""The noise around the oracle: inputs moved by a rounding, masks and whole numbers never, the same in every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conformance.evidence.evidence import ReferenceResult
from conformance.evidence.tolerance import EPSILON
from conformance.workers.jobs import ReferenceJob
from conformance.workers.pool import Workers
from conformance.workers.reference_members import begun_at, perturbed

HERE = Path(__file__).parent
PARAMETERS = {"w": np.linspace(-1, 1, 12).reshape(3, 4)}
BATCH = {"x": np.linspace(1, 2, 6), "tokens": np.arange(6, dtype=np.int32), "mask": np.array([1.0, 0.0, 1.0])}


def ask(workers: Workers, framework: str, dtype: str, seed: int = 0, contract: str = "tensor/mlp") -> ReferenceResult:
    job = ReferenceJob(contract=contract, framework=framework, dtype=dtype, seed=seed)
    outcome = workers.run(job, 200)
    assert outcome.reference is not None, outcome.reason + outcome.stack
    return outcome.reference


def test_member_zero_is_not_moved() -> None:
    parameters, [batch] = perturbed(PARAMETERS, [BATCH], "float32", 0)
    assert parameters is PARAMETERS
    assert batch is BATCH


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_inputs_move_by_a_rounding_and_masks_and_tokens_stay(dtype: str) -> None:
    parameters, [batch] = perturbed(PARAMETERS, [BATCH], dtype, 1)
    for before, after in ((PARAMETERS["w"], parameters["w"]), (BATCH["x"], batch["x"])):
        relative = np.abs(after / before - 1)
        assert 0 < relative.max() <= EPSILON[dtype] * 1.01
    assert batch["tokens"] is BATCH["tokens"]
    assert batch["mask"] is BATCH["mask"]


def test_members_move_differently_and_always_the_same_way() -> None:
    first, again, other = (perturbed(PARAMETERS, [BATCH], "float32", member)[0]["w"] for member in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_noise_is_there_and_of_the_size_of_a_rounding(workers: Workers, framework: str, dtype: str) -> None:
    reference = ask(workers, framework, dtype)
    for oracle, noise in zip(reference.oracle, reference.noise, strict=True):
        assert list(oracle) == list(noise)
        for name, true in oracle.items():
            if name.startswith(("gradients/", "outputs/")):
                assert (noise[name][true != 0] > 0).mean() > 0.5, name
                assert noise[name].max() < 256 * EPSILON[dtype] * np.abs(true).max(), name
            assert noise[name].dtype == true.dtype == np.float64
            assert np.isfinite(noise[name]).all()
    assert not any(noise["metrics/tokens"].any() for noise in reference.noise), "counts do not round"


def test_truth_is_the_same_twice_and_another_for_another_seed(workers: Workers, framework: str) -> None:
    once, again, other = (ask(workers, framework, "float32", seed) for seed in (0, 0, 1))
    for first, second in zip((*once.oracle, *once.noise), (*again.oracle, *again.noise), strict=True):
        assert all(np.array_equal(first[name], second[name]) for name in first)
    assert once.oracle[0]["loss"] != other.oracle[0]["loss"]


def test_choices_of_the_oracle_are_replayed_where_dtypes_are_narrow(workers: Workers, framework: str) -> None:
    wide, narrow = (ask(workers, framework, dtype, contract="moe/gshard") for dtype in ("float64", "bfloat16"))
    assert wide.decisions == ({},) * len(wide.oracle)
    for decisions, oracle, noise in zip(narrow.decisions, narrow.oracle, narrow.noise, strict=True):
        assert decisions.keys() == {"routing.moe"}
        assert np.array_equal(decisions["routing.moe"], oracle["choices/moe"])
        assert not noise["choices/moe"].any()
        assert noise["scores/moe"].any(), "what the router itself would choose is still its own"


def test_a_master_copy_is_not_moved_with_the_parameters():
    moved = {"w": PARAMETERS["w"] * 1.01}
    update, loss = np.full_like(moved["w"], 0.5), np.array(2.0)
    run = ({"optimizer/master/w": moved["w"] + update, "updates/w": update, "loss": loss},)
    [step] = begun_at(PARAMETERS, moved, run)
    np.testing.assert_allclose(step.pop("optimizer/master/w"), PARAMETERS["w"] + update)
    assert step == {"updates/w": update, "loss": loss}


def test_the_yardstick_of_a_sum_knows_its_number_of_terms(workers: Workers, framework: str) -> None:
    """Each sum has the error of an order of summation, the oracle's too: far more than its inputs' roundings leave."""
    small, large = (
        ask(workers, framework, "float64", contract=f"{HERE / 'long_sums.py'}:{name}") for name in ("SHORT", "LONG")
    )
    relative = [float(reference.noise[0]["loss"] / reference.oracle[0]["loss"]) for reference in (small, large)]
    assert relative[1] > 4 * EPSILON["float64"]
    assert relative[1] > 2 * relative[0]


@pytest.mark.parametrize("contract", ["tensor/mlp", "moe/gshard"])
def test_references_of_ours_compute_in_float64_throughout(workers: Workers, framework: str, contract: str) -> None:
    assert ask(workers, framework, "float64", contract=contract).lower == ()
