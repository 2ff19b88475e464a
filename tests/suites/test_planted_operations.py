"""An operation that is missing, extra, of the wrong size or dtype, or over the wrong axis, is named with its tensor.

Over the budgets of all implementations: the step that is judged sends what the budget says, but for one planted call.
Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from conformance.cases.case import Case
from conformance.cases.suite import Suite, suites
from conformance.checks.differences import differences
from conformance.checks.upper_bound import excess
from conformance.contract.budget import Allowance
from conformance.contract.implementation import Portion, Traffic
from conformance.evidence.partitioned import Partitioned, Sent
from conformance.traffic.collective_op import BITS
from conformance.traffic.wire import wire_bytes
from tests.suites.test_declared import declared, sample

OTHER = {"float64": "float32", "float32": "bfloat16", "bfloat16": "float32", "int32": "int64", "int64": "int32"}
Planted = tuple[str, str, list[Traffic]]  # what it must be called, the tensor, what the step sends


def traced(each: Traffic, portions: Sequence[Portion]) -> Traffic:
    """As a trace has it: calls with their sizes, and no names. Of several ranks one has most calls, one most bytes."""
    unnamed = tuple(replace(portion, tensor="") for portion in portions)
    calls = sum(portion.calls for portion in portions) - sum(portion.calls for portion in each.portions)
    size = sum(portion.calls * portion.bytes for portion in portions)
    more = size - sum(portion.calls * portion.bytes for portion in each.portions)
    return replace(each, calls=each.calls + calls, bytes=each.bytes + more, portions=unnamed)


def planted(traffic: Sequence[Traffic], axes: Sequence[str]) -> Iterator[Planted]:
    """Of every entry, for the largest of its calls: one call that is another one, or none, or one more."""
    for number, each in enumerate(traffic):
        others = [traced(other, other.portions) for n, other in enumerate(traffic) if n != number]
        call = replace(max(each.portions, key=lambda portion: portion.bytes), calls=1)
        without = _without(each.portions, call)
        yield "extra", call.tensor, [*others, traced(each, [*each.portions, call])]
        if each.at_most:
            continue
        kept = [*others, traced(each, without)]
        yield "missing", call.tensor, kept
        twice = replace(call, bytes=2 * call.bytes)
        yield "wrong size", call.tensor, [*others, traced(each, [*without, twice])]
        dtype = OTHER[each.dtype or ""]
        narrow = replace(call, bytes=call.bytes * BITS[dtype] // BITS[each.dtype or ""])
        yield "wrong dtype", call.tensor, [*kept, alone(each, narrow, dtype=dtype)]
        for axis in axes:
            if (axis,) != each.axes:
                yield "wrong axis", call.tensor, [*kept, alone(each, call, axes=(axis,))]


def alone(each: Traffic, portion: Portion, **changed: Any) -> Traffic:
    """Some calls by themselves, elsewhere."""
    unnamed = replace(portion, tensor="")
    return replace(each, calls=portion.calls, bytes=portion.calls * portion.bytes, portions=(unnamed,), **changed)


def _without(portions: Sequence[Portion], call: Portion) -> list[Portion]:
    left, taken = [], False
    for portion in portions:
        same = not taken and (portion.tensor, portion.bytes) == (call.tensor, call.bytes)
        left.append(replace(portion, calls=portion.calls - 1) if same else portion)
        taken = taken or same
    return [portion for portion in left if portion.calls]


def _spoken(suite: Suite) -> Iterator[tuple[Case, tuple[Traffic, ...]]]:
    for case in sample(suite):
        said = declared(case, suite)
        if said is not None and said.traffic:
            yield case, said.traffic


@pytest.mark.parametrize("name", sorted(suites()))
def test_each_is_named_with_its_tensor(name: str) -> None:
    seen = set()
    for case, traffic in _spoken(suites()[name]):
        axes = [axis for axis in case.mesh.axes if case.mesh.size(axis) > 1]
        assert not differences(traffic, [traced(each, each.portions) for each in traffic])
        for what, tensor, step in planted(traffic, axes):
            findings = differences(traffic, step)
            assert [each.what for each in findings] == [what], f"{case.id}: {what} of {tensor}: {findings}"
            assert tensor in findings[0].tensors or name == "collectives", (
                f"{case.id}: {what} of '{tensor}': {findings}"
            )
            seen.add(what)
    assert seen >= {"missing", "extra", "wrong size", "wrong dtype"}
    assert "wrong axis" in seen or name == "memory"


@pytest.mark.parametrize("name", sorted(set(suites()) - {"collectives"}))
def test_every_entry_names_the_tensors_that_it_carries(name: str) -> None:
    for case, traffic in _spoken(suites()[name]):
        for each in traffic:
            assert all(portion.tensor for portion in each.portions), f"{case.id}: {each}"


# Bounds of automatic programs.


def sent(allowance: Allowance, parts: int, axes: tuple[str, ...], *, times: int = 1) -> Sent:
    payload = times * allowance.calls * -(-allowance.elements * BITS[allowance.dtype] // 8)
    return Sent(
        kind=allowance.kind,  # type: ignore[arg-type]
        axes=axes,
        phase="backward",
        dtype=allowance.dtype,
        calls=allowance.calls,
        payload_bytes=payload,
        wire_bytes=wire_bytes(allowance.kind, payload, parts),
        tensor=allowance.tensor,
        where="",
    )


@pytest.mark.parametrize("name", sorted(suites()))
def test_a_bound_names_the_parameter(name: str) -> None:
    """Of the largest parameter: three times what is allowed, and of activations where there is no parameter."""
    for case in sample(suites()[name]):
        said = declared(case, suites()[name])
        if said is None or not said.at_most:
            continue
        mesh, parameters = case.mesh, suites()[name].contract(case.contract).shapes
        active = [(each, tuple(a for a in mesh.axes if a in each.axes and mesh.size(a) > 1)) for each in said.at_most]
        all_sent = [sent(each, _parts(mesh, axes), axes) for each, axes in active if axes]
        assert not excess(Partitioned(sent=tuple(all_sent), rematerialized=()), said.at_most, mesh, parameters)
        carried = [(each, axes) for each, axes in active if axes]
        named = [pair for pair in carried if pair[0].tensor] or carried
        largest, axes = max(named, key=lambda pair: pair[0].elements)
        twice = sent(largest, _parts(mesh, axes), axes, times=2)
        beyond = excess(Partitioned(sent=(*all_sent, twice), rematerialized=()), said.at_most, mesh, parameters)
        assert beyond, case.id
        assert beyond[0].parameter == largest.tensor, f"{case.id}: {beyond[0].sentence}"


def _parts(mesh, axes: tuple[str, ...]) -> int:
    parts = 1
    for axis in axes:
        parts *= mesh.size(axis)
    return parts
