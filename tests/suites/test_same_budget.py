"""The two frameworks are held to the same budget: twins declare the same calls, bytes and dtypes, or why they do not.

JAX sums over several axes in one call, torch axis by axis: a call over several axes counts once for each of them. Whole
numbers that JAX keeps in 32 bits torch keeps in 64.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from conformance.cases.case import Case
from conformance.cases.suite import Suite, suites
from conformance.contract.implementation import Traffic
from tests.suites.test_declared import declared

TWINS = {
    "tensor": (("jax-shard_map", "torch-collectives"),),
    "data": tuple((f"jax-{way}", f"torch-{way}") for way in ("data_parallel", "zero1", "zero2", "zero3")),
    "sequence": (
        ("jax-shard_map", "torch-collectives"),
        *((f"jax-{way}", f"torch-{way}") for way in ("ring", "zigzag", "ulysses")),
    ),
}
LAST_SUM = "torch computes a layer again to its end; its last sum, which nothing reads, JAX leaves out"
KEPT_WIDE = "torch keeps a scale that was widened, JAX gathers it again"
# Contract, or implementation of JAX -> what differs: the kinds of collectives, and why.
DEVIATIONS = {
    "data/dropout_recomputed": (("all_reduce",), LAST_SUM),
    "sequence/layer_recomputed": (("reduce_scatter",), LAST_SUM),
    "sequence/context_layer_recomputed": (("reduce_scatter",), LAST_SUM),
    **{f"data/policy_{name}": (("all_gather",), KEPT_WIDE) for name in ("bfloat16_compute", "master", "small_updates")},
    "jax-zero2": (("reduce_scatter",), "scatters of the last slice are the first of the update in torch alone"),
}


def _pairs(suite: Suite, left: str, right: str) -> Iterator[tuple[Case, Case]]:
    """Of every contract the first core case that both have, on several devices."""
    cases: dict[tuple[str, str, str], dict[str, Case]] = {}
    for case in suite.cases("core"):
        if case.mesh.devices > 1 and case.expect == "pass":
            cases.setdefault((case.contract, str(case.mesh), case.dtype), {})[case.implementation] = case
    first = {key[0]: (both[left], both[right]) for key, both in reversed(cases.items()) if {left, right} <= set(both)}
    yield from first.values()


def _by_axis(traffic: tuple[Traffic, ...] | None) -> Counter[tuple[str, ...]]:
    """(phase, kind, axis, dtype, calls or bytes) -> how many."""
    counts: Counter[tuple[str, ...]] = Counter()
    for each in traffic or ():
        for axis in each.axes:
            key = (each.phase, each.kind, axis, {"int64": "int32"}.get(each.dtype or "", each.dtype or ""))
            counts[*key, "calls"] += each.calls
            counts[*key, "bytes"] += each.bytes // (2 if each.dtype == "int64" else 1)
    return counts


@pytest.mark.parametrize(("name", "left", "right"), [(name, *pair) for name, pairs in TWINS.items() for pair in pairs])
def test_twins_have_one_budget(name: str, left: str, right: str) -> None:
    suite, compared = suites()[name], 0
    for in_jax, in_torch in _pairs(suite, left, right):
        said = [_by_axis(declaration.traffic) for case in (in_jax, in_torch) if (declaration := declared(case, suite))]
        assert len(said) == 2, f"{in_jax.contract} is not declared by both"
        assert said[0], f"{in_jax.id} declares nothing"
        differing = {key[1] for key in said[0] | said[1] if said[0][key] != said[1][key]}
        kinds, _ = DEVIATIONS.get(in_jax.contract) or DEVIATIONS.get(left) or ((), "")
        assert differing <= set(kinds), f"{in_jax.id} and {in_torch.id} differ in {sorted(differing)}"
        compared += 1
    assert compared >= 5
