"""Who uses what: a failing program beside one device, where values are the same if they hold the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property, lru_cache

import numpy as np

from conformance.diagnosis.inside.blocks import agree, filled, whole
from conformance.diagnosis.inside.compared import Compared
from conformance.diagnosis.inside.fingerprints import blur, mark
from conformance.diagnosis.inside.kinds import ARRANGED
from conformance.evidence.intermediates import Intermediate, Intermediates

TWINS_KEPT = 4  # two lanes, and two programs of each in turn
LONGEST = 5  # operations in a chain
MOST = 256  # chains of one length that are followed
Chain = tuple[Intermediate, ...]
Users = Callable[[Intermediate], Sequence[Intermediate]]


class Flow:
    """Uses of the values on the way to the tensor that diverges."""

    def __init__(self, compared: Compared) -> None:
        self.compared = compared
        self._known: dict[int, list[int]] = {}

    def operands(self, value: Intermediate) -> list[Intermediate] | None:
        """What an operation of the failing program is given, as values of one device; None where one is not known."""
        known = [self.compared.known(number) for number in value.sources]
        return None if None in known else [operand for operand in known if operand is not None]

    def operands_there(self, value: Intermediate) -> list[Intermediate]:
        """What an operation of one device is given."""
        return [self._there[number] for number in value.sources if number in self._there]

    def users(self, value: Intermediate) -> list[Intermediate]:
        """What the failing program makes of one of its values."""
        return self._users.get(value.number, [])

    def users_there(self, value: Intermediate) -> list[Intermediate]:
        """What one device makes of one of its values, or of what holds the same numbers."""
        return [user for number in self._alike(value) for user in self._users_there.get(number, [])]

    def is_lacking(self, value: Intermediate) -> bool:
        """Whether the failing program has nothing that holds the numbers of a value of one device."""
        return not self._found.intersection(self._alike(value))

    def is_wrong(self, value: Intermediate) -> bool:
        return value.number not in self.compared.right

    def _alike(self, value: Intermediate) -> list[int]:
        """The numbers of the values of one device that hold the same."""
        if value.number not in self._known:
            alike = _by_numbers(self.compared.twin).like(value)
            same = (other for other in alike if other.number in self._there and self.is_same(other, value))
            self._known[value.number] = [other.number for other in same]
        return self._known[value.number]

    def is_same(self, value: Intermediate, other: Intermediate) -> bool:
        """Of two values of one device."""
        if value.number == other.number:
            return True
        held, wanted = filled(whole(value)), filled(whole(other))
        return held.size == wanted.size and agree({0: held}, lambda _: wanted, float(abs(wanted).max(initial=0.0)))

    @cached_property
    def _there(self) -> dict[int, Intermediate]:
        return {value.number: value for value in self.compared.of_twin}

    @cached_property
    def _users_there(self) -> dict[int, list[Intermediate]]:
        return _users(self._there.values())

    @cached_property
    def _users(self) -> dict[int, list[Intermediate]]:
        return _users(self.compared.values[number] for number in sorted(self.compared.way))

    @cached_property
    def _found(self) -> set[int]:
        return {match.whole for match in self.compared.matches.values() if match is not None}


class _ByNumbers:
    """Values by their size and one projection of their numbers: what tells most of them apart at once."""

    def __init__(self, values: Iterable[Intermediate]) -> None:
        self._of_size: dict[int, list[Intermediate]] = {}
        for value in values:
            self._of_size.setdefault(whole(value).size, []).append(value)
        self._marks = {size: np.array([mark(filled(whole(x))) for x in of]) for size, of in self._of_size.items()}

    def like(self, value: Intermediate) -> list[Intermediate]:
        """Those that may hold the same, in their order; of what holds no numbers, all of that size."""
        held = filled(whole(value))
        of_size = self._of_size.get(held.size, [])
        apart = np.abs(self._marks.get(held.size, np.empty(0)) - mark(held)) > blur(held)
        return [other for other, is_apart in zip(of_size, apart, strict=True) if not is_apart]


@lru_cache(maxsize=TWINS_KEPT)
def _by_numbers(twin: Intermediates) -> _ByNumbers:
    return _ByNumbers(value for value in twin.values if value.values)


def _users(values: Iterable[Intermediate]) -> dict[int, list[Intermediate]]:
    users: dict[int, list[Intermediate]] = {}
    for value in values:
        for number in dict.fromkeys(value.sources):
            users.setdefault(number, []).append(value)
    return users


def chains(begun: Iterable[Intermediate], may: Callable[[Intermediate], bool], users: Users) -> Iterator[Chain]:
    """Chains of operations, of which at least one computes something, each made of the one before; short ones first."""
    found: list[Chain] = [(value,) for value in begun if may(value)]
    for _ in range(LONGEST):
        yield from (chain for chain in found if any(value.operation not in ARRANGED for value in chain))
        found = [(*chain, value) for chain in found for value in users(chain[-1]) if may(value)][:MOST]
