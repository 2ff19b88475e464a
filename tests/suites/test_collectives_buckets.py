"""Buckets hold every gradient once, and change no bit: fewer sums, the same numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.cases.case import Case
from conformance.cases.resolve import resolve
from conformance.contract.mesh import Mesh
from conformance.evidence.blocks import all_same_bits
from conformance.evidence.evidence import Evidence
from conformance.workers.jobs import CaseJob
from conformance.workers.pool import Workers
from suites.collectives.buckets import Bucketed, buckets
from suites.collectives.gradient_contracts import CONTRACTS

CONTRACT = "collectives/gradients"
MESH = "data=2"  # a sum of two has one order: whatever is summed with whatever, no bit may differ


@pytest.mark.quick
@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(0, 50), max_size=20), st.integers(1, 100))
def test_every_gradient_is_in_one_bucket_and_only_a_large_one_exceeds_it(sizes: dict[str, int], limit: int):
    groups = buckets(sizes, limit)
    assert [name for group in groups for name in group] == list(sizes)
    totals = [sum(sizes[name] for name in group) for group in groups]
    assert all(total <= limit or len(group) == 1 for total, group in zip(totals, groups, strict=True))
    for total, following in zip(totals, groups[1:], strict=False):
        assert total + sizes[following[0]] > limit  # none was closed too early


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with Workers(jax_devices=2) as warm:
        yield warm


def ran(workers: Workers, implementation: str) -> Evidence:
    case = Case(contract=CONTRACT, implementation=implementation, mesh=Mesh.parse(MESH), dtype="float32")
    target = resolve(case)
    job = CaseJob(case=case, framework=target.framework, target=target.path, determinism=False, input_sensitivity=False)
    outcome = workers.run(job, timeout_seconds=300)
    assert outcome.evidence is not None, outcome.reason
    return outcome.evidence


def launches(evidence: Evidence) -> int:
    return sum(traffic.calls for traffic in evidence.traffic or ())


@pytest.mark.workers
@pytest.mark.parametrize("framework", ["jax", "torch"])
def test_buckets_change_no_bit_and_save_launches(workers: Workers, framework: str):
    [contract] = [contract for contract in CONTRACTS if contract.name == CONTRACT]
    sizes = {name: 4 * math.prod(shape) for name, shape in reversed(contract.shapes.items())}
    saved = len(sizes) - len(buckets(sizes, Bucketed.bucket_bytes))
    assert saved > len(sizes) / 3
    plain = ran(workers, f"{framework}-one_by_one")
    for how in ("bucketed", "overlapped"):
        combined = ran(workers, f"{framework}-{how}")
        for step, other in zip(plain.steps, combined.steps, strict=True):
            assert all_same_bits(step, other)
        assert launches(plain) - launches(combined) == saved
