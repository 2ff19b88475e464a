"""Routing of both frameworks against loops over tokens, and what the contracts promise of their routing."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conformance.contract.mesh import Mesh
from reference.architecture import mixtures
from suites.moe.contracts import CONTRACTS

FRAMEWORKS = ("jax", "torch")
ROUTING = {"jax": "jax.routing", "torch": "torch_manual.routing"}
ROUTED = [contract for contract in CONTRACTS if any(key.startswith("routing.") for key in contract.batches(0, 1)[0])]
MARGIN = 1e-7  # between the score of the last choice and of the first that is none: far above rounding in float64


def _module(framework: str):
    return import_module(f"suites.moe.{ROUTING[framework]}")


def _array(framework: str, value: np.ndarray):
    return import_module("torch").tensor(value) if framework == "torch" else import_module("jax.numpy").asarray(value)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@settings(deadline=None)  # the first call compiles
@given(data=st.data())
def test_of_equal_scores_the_lower_number_wins(framework: str, data: st.DataObject) -> None:
    experts, top_k = data.draw(st.integers(2, 7)), data.draw(st.integers(1, 2))
    scores = np.array([[data.draw(st.lists(st.integers(0, 3), min_size=experts, max_size=experts))]], np.float64)
    expected = sorted(range(experts), key=lambda e: (-scores[0, 0, e], e))[:top_k]
    assert np.asarray(_module(framework).chosen(_array(framework, scores), top_k))[0, 0].tolist() == expected


@pytest.mark.parametrize("framework", FRAMEWORKS)
@settings(deadline=None)  # the first call compiles
@given(data=st.data())
def test_first_choices_come_before_second_ones(framework: str, data: st.DataObject) -> None:
    choices = st.lists(st.integers(-1, 3), min_size=2, max_size=2)
    row = np.array([data.draw(st.lists(choices, min_size=1, max_size=6))])
    before = np.asarray(_module(framework).numbered(_array(framework, row), 4))
    seen: dict[int, int] = {}
    for k in range(2):
        for s in range(row.shape[1]):
            expert = int(row[0, s, k])
            if expert >= 0:
                assert before[0, s, k] == seen.get(expert, 0)
                seen[expert] = seen.get(expert, 0) + 1


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_gates_are_scores_of_the_choices(framework: str) -> None:
    scores, choices = np.array([[[0.5, 0.25, 0.125]]]), np.array([[[1, -1]]])
    for normalized, gate in ((False, 0.25), (True, 1.0)):
        gates = _module(framework).gated(_array(framework, scores), _array(framework, choices), normalized)
        assert np.asarray(gates)[0, 0].tolist() == [gate, 0.0]


@pytest.mark.parametrize("contract", ROUTED, ids=lambda contract: contract.name)
def test_prescribed_routing_has_busy_and_idle_experts(contract) -> None:
    for batch in contract.batches(0, contract.recipe.steps):
        for name in mixtures(contract.model):
            choices = batch[f"routing.{name}"]
            load = np.bincount(choices[batch["attention_mask"] > 0].reshape(-1), minlength=contract.model.experts)
            assert load[-1] == 0
            assert load[-2] == 1
            assert load[0] > 2 * load[1:-2].max()
            ordered = np.sort(choices, -1)
            assert (ordered[..., 1:] != ordered[..., :-1]).all(), "a token asks an expert once"


@pytest.mark.parametrize(
    "contract",
    [
        contract
        for contract in CONTRACTS
        if contract.model.kind == "moe" and contract not in ROUTED and contract.name != "moe/wide"
    ],
    ids=lambda contract: contract.name,
)
def test_no_choice_hangs_on_rounding(contract) -> None:
    """Where the routing is not prescribed, no two experts may score so alike that rounding would choose."""
    model, parameters = contract.model, contract.parameters(0)
    batch = contract.batches(0, 1)[0]
    logits = batch["inputs"] @ parameters["moe.router.weight"]
    scores = (
        1 / (1 + np.exp(-logits)) if model.scores == "sigmoid" else np.exp(logits) / np.exp(logits).sum(-1)[..., None]
    )
    ranked = np.sort(scores + parameters.get("moe.router.bias", 0.0), -1)[batch["attention_mask"] > 0][:, ::-1]
    gaps = ranked[:, : model.top_k] - ranked[:, 1 : model.top_k + 1]
    assert gaps.min() > MARGIN


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("mesh", ["data=2,expert=4", "data=4,expert=2@shuffled"])
def test_every_device_has_its_part_of_every_slice(framework: str, mesh: str) -> None:
    contract = next(contract for contract in CONTRACTS if contract.name == "moe/accumulation_uneven")
    module = {"jax": "jax_manual.capacity", "torch": "torch_manual.exchange"}[framework]
    model = import_module(f"suites.moe.{module}").Mixture(contract, Mesh.parse(mesh), "float64")
    shares = np.cumsum(contract.recipe.shares) / sum(contract.recipe.shares)
    slices = np.split(np.arange(len(model.row_order)), (shares[:-1] * len(model.row_order)).astype(int))
    for own in model.row_order.reshape(Mesh.parse(mesh).devices, -1):
        parts = np.split(own, (shares[:-1] * len(own)).astype(int))
        for part, whole in zip(parts, slices, strict=True):
            assert set(part.tolist()) <= set(whole.tolist())
