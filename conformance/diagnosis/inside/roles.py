"""An operation of another program that does the same with another value: known by what is done with the result.

Two programs have no lines in common. Where one device does the same operation once to a value of that shape, goes on
with the result as here, and has nothing of it here, that value is the one that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.diagnosis.inside.blocks import whole
from conformance.diagnosis.inside.compared import spoken
from conformance.diagnosis.inside.flow import LONGEST, Flow, Users
from conformance.diagnosis.inside.kinds import ADDS, ARRANGED, SELECTIONS
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

PASSED = (*ARRANGED, *SELECTIONS)  # that make no numbers


def of_role(flow: Flow, first: Intermediate) -> Iterator[Cause]:
    """The one operand that is another value there; nothing of an operation that any value may be given."""
    given = flow.operands(first) or []
    if not given or first.operation in (*ADDS, *ARRANGED):
        return
    alike = [value for value in flow.compared.of_twin if _has_role(flow, value, first, given)]
    others = {place: value for value in alike for place in _others(flow, value, given)}
    if len(alike) == 1 == len(others):
        [(place, value)] = others.items()
        own, theirs = spoken(given[place]), spoken(flow.operands_there(value)[place])
        wanted = "of another call" if own == theirs else f"where one device takes what {theirs} makes"
        words = f"another value than on one device is used: operand {place} of {spoken(first)} is"
        said = f"{words} what {own} makes, {wanted}"
        basis = f"one device does this once to a value of that shape, at {spoken(value)}, and has nothing of it here"
        yield Cause(cause=said, axis=None, confidence=FOUND, basis=basis)


def _has_role(flow: Flow, value: Intermediate, first: Intermediate, given: list[Intermediate]) -> bool:
    """Whether it is the same operation on values of the same shapes, with which one device goes on alike."""
    operands = flow.operands_there(value)
    same = value.operation == first.operation and value.phase == first.phase and len(operands) == len(given)
    shapes = same and [whole(x).shape for x in operands] == [whole(x).shape for x in given]
    if not shapes or not flow.is_lacking(value):
        return False
    here, there = _done(first, flow.users), _done(value, flow.users_there)
    return bool(here) and here == there


def _done(value: Intermediate, users: Users) -> set[str]:
    """What is computed next with it: it may be moved, repeated and selected before."""
    done, reached = set[str](), [value]
    for _ in range(LONGEST):
        made = [user for each in reached for user in users(each)]
        done |= {user.operation for user in made if user.operation not in PASSED}
        reached = [user for user in made if user.operation in PASSED]
    return done


def _others(flow: Flow, value: Intermediate, given: list[Intermediate]) -> list[int]:
    """The places of operands that are others than those given, of which nothing is here."""
    operands = flow.operands_there(value)
    differ = [place for place, pair in enumerate(zip(operands, given, strict=True)) if not flow.is_same(*pair)]
    return differ if len(differ) == 1 and flow.is_lacking(operands[differ[0]]) else []
