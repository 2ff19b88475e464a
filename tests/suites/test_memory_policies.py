"""Policies of memory: how recipes spell them, what they repeat, and what a measurement says of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.contract.contract import Recipe
from conformance.contract.implementation import Unsupported
from suites.memory.contracts import CONTRACTS
from suites.memory.measure import picture
from suites.memory.measure.__main__ import TITLES, page
from suites.memory.measure.figure import Figure
from suites.memory.measure.programs import POLICIES
from suites.memory.policies import Policy, policy_of


@pytest.mark.parametrize(
    ("recompute", "policy", "repeated"),
    [
        ("none", Policy(block="none"), []),
        ("attention", Policy(block="attention"), []),
        ("feedforward", Policy(block="feedforward"), []),
        ("layer", Policy(block="layer"), [0, 1, 2, 3, 4]),
        ("layer every 2", Policy(block="layer", every=2), [0, 2, 4]),
        ("layer every 3", Policy(block="layer", every=3), [0, 3]),
        ("layer but tensor", Policy(block="layer", axis="tensor"), [0, 1, 2, 3, 4]),
    ],
)
def test_a_recipe_spells_its_policy(recompute: str, policy: Policy, repeated: list[int]) -> None:
    assert policy_of(Recipe(recompute=recompute)) == policy
    assert [number for number in range(5) if policy.repeats_layer(f"layers.{number}")] == repeated
    assert policy.repeated_layers(5) == len(repeated)


@pytest.mark.parametrize("recompute", ["everything", "attention every 2", "layer every two", "feedforward but tensor"])
def test_an_unknown_policy_is_refused(recompute: str) -> None:
    with pytest.raises(Unsupported, match=f"recomputes '{recompute}'"):
        policy_of(Recipe(recompute=recompute))


def test_every_contract_and_every_measured_policy_is_known() -> None:
    assert {policy_of(contract.recipe).block for contract in CONTRACTS} == {"none", "attention", "feedforward", "layer"}
    assert all(policy_of(Recipe(recompute=policy)) for policy in POLICIES)


def _figures() -> list[Figure]:
    def one(group: str, policy: str, kind: str, size: int, framework: str = "jax") -> Figure:
        return Figure(
            group=group, policy=policy, framework=framework, mesh="tensor=2", shape="small", kind=kind, level="program",
            bytes=size, seconds=0.25 if group == "checkpointing" else None,
        )  # fmt: skip

    checkpointing = [
        one("checkpointing", policy, "saved residuals", 2**20 - number, framework)
        for framework in ("jax", "torch")
        for number, policy in enumerate(POLICIES)
    ]
    others = [one(group, "a", "argument", 3 * 2**20) for group in TITLES if group != "checkpointing"]
    return [*checkpointing, *others, one("axes", "a", "temporaries", 2**20)]


def test_the_page_has_every_figure_and_the_picture_is_the_same_twice(tmp_path: Path) -> None:
    text = page(_figures(), Path("results/memory"))
    assert "Temporaries at the level of a chip are in [target.md](target.md)" in text
    assert text.count("\n| ") == len(_figures()) + 2 * len(TITLES)
    assert "| none | jax | tensor=2 | small | saved residuals | program | 1.0 MiB | 0.2500 |" in text
    assert "| a | jax | tensor=2 | small | argument | program | 3.0 MiB |\n" in text
    for name in ("first.svg", "second.svg"):
        picture.write(_figures(), tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
