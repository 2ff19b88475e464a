"""Policies of memory as JAX traces and compiles them: what goes to host memory, what is kept, what is taken over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

jax = pytest.importorskip("jax")

import numpy as np  # noqa: E402

from conformance.contract.mesh import Mesh  # noqa: E402
from suites.memory.contracts import CONTRACTS, SPILLED_FROM  # noqa: E402
from suites.memory.jax_manual.model import LanguageModel  # noqa: E402
from suites.memory.jax_manual.offloading import TO_HOST, result_bytes  # noqa: E402
from suites.memory.jax_manual.spilling import moved_to_host  # noqa: E402
from suites.memory.measure.in_jax import NotDonating, residual_bytes, state_shapes  # noqa: E402

MESH = Mesh.parse("data=2,tensor=2")


def _made(maker: type = LanguageModel, **recipe: Any) -> Any:
    contract = next(known for known in CONTRACTS if known.name == "memory/spilled")
    contract = replace(contract, recipe=replace(contract.recipe, **{"spill": None, "accumulation": 1, **recipe}))
    made = maker(contract, MESH, "float32")
    made.settle(jax.sharding.Mesh(np.array(jax.devices()[:4]).reshape(2, 2), MESH.axes))
    return made


def _batch(made: Any) -> dict[str, np.ndarray]:
    return made.contract.batches(0, 1)[0]


def test_what_is_large_goes_to_host_memory_and_nothing_else() -> None:
    made = _made(spill=SPILLED_FROM)
    moved = [aval.size * aval.dtype.itemsize for aval in moved_to_host(made.program, state_shapes(made), _batch(made))]
    assert len(moved) >= 3 * made.contract.model.layers
    assert min(moved) >= SPILLED_FROM
    without = _made()
    assert moved_to_host(without.program, state_shapes(without), _batch(without)) == []


def test_a_policy_leaves_less_for_the_backward_pass() -> None:
    """Whole layers least, then those whose sums are kept, every second one, one block, and no policy."""
    policies = ("layer", "layer but tensor", "layer every 2", "feedforward", "none")
    sizes = [residual_bytes(_made(recompute=policy)) for policy in policies]
    assert sizes == sorted(set(sizes))
    assert residual_bytes(_made(recompute="attention")) < sizes[-1]


def test_slices_divide_what_is_kept() -> None:
    """But for what does not grow with the rows (masks of positions, say), a tenth at most."""
    whole = residual_bytes(_made())
    for slices in (2, 4):
        assert whole / slices <= residual_bytes(_made(accumulation=slices)) <= 1.1 * whole / slices


def test_a_donated_state_is_given_away_and_changes_no_bit() -> None:
    results = []
    for maker, given in ((LanguageModel, True), (NotDonating, False)):
        made = _made(maker)
        state = made.laid_out(made.state(made.contract.parameters(0)))
        new, _ = made.program(state, _batch(made))
        assert {leaf.is_deleted() for leaf in jax.tree.leaves(state)} == {given}
        results.append(jax.tree.map(np.asarray, new))
    assert jax.tree.all(jax.tree.map(np.array_equal, *results))


def test_the_private_interface_is_as_it_was() -> None:
    """`jax.checkpoint` takes this answer of a policy; `abstract_eval` gives the results of an operation."""
    assert (TO_HOST.src, TO_HOST.dst) == ("device", "pinned_host")
    [eqn] = jax.make_jaxpr(lambda x: x @ x)(np.zeros((3, 3), np.float32)).jaxpr.eqns
    assert result_bytes(eqn.primitive, tuple(v.aval for v in eqn.invars), eqn.params) == 36
