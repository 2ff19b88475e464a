"""Policies of memory as torch dispatches them: what one rank of a mesh keeps for its backward pass, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from conformance.contract.contract import Contract  # noqa: E402
from suites.memory.contracts import CONTRACTS, SPILLED_FROM  # noqa: E402
from suites.memory.measure.in_torch import Saved, kept_of  # noqa: E402


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    """The tensors are small: more threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _contract(**recipe: Any) -> Contract:
    contract = next(known for known in CONTRACTS if known.name == "memory/spilled")
    return replace(contract, recipe=replace(contract.recipe, **{"spill": None, "accumulation": 1, **recipe}))


def _kept(**recipe: Any) -> Saved:
    return kept_of(_contract(**recipe), repeats=1)[0]


def test_what_is_large_goes_to_host_memory_and_nothing_else() -> None:
    spilled, without = _kept(spill=SPILLED_FROM), _kept()
    assert spilled.on_host
    assert min(tensor.nbytes for tensor in spilled.on_host.values()) >= SPILLED_FROM
    assert max(tensor.nbytes for tensor in spilled.on_device.values()) < SPILLED_FROM
    assert not without.on_host
    assert spilled.device_bytes() < without.device_bytes()


def test_a_policy_leaves_less_for_the_backward_pass() -> None:
    """Whole layers least, then those whose sums are kept, every second one, one block, and no policy."""
    policies = ("layer", "layer but tensor", "layer every 2", "feedforward", "none")
    sizes = [_kept(recompute=policy).device_bytes() for policy in policies]
    assert sizes == sorted(set(sizes))
    assert _kept(recompute="attention").device_bytes() < sizes[-1]


def test_slices_divide_what_is_kept() -> None:
    whole = _kept().device_bytes()
    for slices in (2, 4):
        assert whole / slices <= _kept(accumulation=slices).device_bytes() <= 1.1 * whole / slices
