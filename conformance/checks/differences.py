"""Where a step communicates other than it is declared to: each difference a finding, with the tensor it belongs to.

Calls that are lost in one place and found in another, in the same number, are one finding: of the wrong dtype where
all else is the same, else over the wrong axis, else in the wrong phase. What is left is missing, extra, or of the
wrong size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from conformance.contract.implementation import CollectiveKind, Phase, Portion, Traffic

What = Literal["missing", "extra", "wrong axis", "wrong size", "wrong dtype", "wrong phase"]
PHASES: tuple[Phase, ...] = ("forward", "backward", "update")
_NAMED = 3  # tensors in one sentence


Place = tuple[Phase, CollectiveKind, tuple[str, ...]]


class Key(NamedTuple):
    """Where calls are counted together. `dtype` is empty where the declaration names none."""

    phase: Phase
    kind: CollectiveKind
    axes: tuple[str, ...]
    dtype: str

    def __str__(self) -> str:
        in_dtype = f" in {self.dtype}" if self.dtype else ""
        return f"{self.phase} {self.kind} over {'+'.join(self.axes)}{in_dtype}"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """Calls and bytes, and what they are made of; `least_calls` and `least_bytes` differ where it is an upper bound."""

    calls: int = 0
    bytes: int = 0
    least_calls: int = 0
    least_bytes: int = 0
    portions: tuple[Portion, ...] = ()

    def with_(self, traffic: Traffic) -> Amount:
        exact = not traffic.at_most
        return Amount(
            calls=self.calls + traffic.calls,
            bytes=self.bytes + traffic.bytes,
            least_calls=self.least_calls + exact * traffic.calls,
            least_bytes=self.least_bytes + exact * traffic.bytes,
            portions=self.portions + traffic.portions,
        )

    def allows(self, seen: Amount) -> bool:
        return self.nearest(seen.calls) == seen.calls and self.least_bytes <= seen.bytes <= self.bytes

    def nearest(self, calls: int) -> int:
        """The number of calls that it allows and that is nearest to what was seen."""
        return min(max(calls, self.least_calls), self.calls)

    def __str__(self) -> str:
        bound = "at most " if (self.least_calls, self.least_bytes) != (self.calls, self.bytes) else ""
        return f"{bound}{self.calls} calls of {self.bytes} bytes"


NONE = Amount()
Amounts = Mapping[Key, Amount]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One finding.

    key      where it was declared, or seen if it was not declared
    found    where it was seen instead; None but for a wrong axis, dtype or phase
    calls    how many are missing, extra or elsewhere; 0 for a wrong size
    beyond   bytes by which the two differ
    tensors  what it belongs to, as far as the sizes of the calls tell
    """

    what: What
    key: Key
    declared: Amount
    traced: Amount
    calls: int = 0
    found: Key | None = None
    tensors: tuple[str, ...] = ()

    @property
    def beyond(self) -> int:
        return max(abs(self.declared.bytes - self.traced.bytes), 1)

    @property
    def sentence(self) -> str:
        named = ", ".join(f"'{name}'" for name in self.tensors[:_NAMED])
        more = f" and {len(self.tensors) - _NAMED} more" if len(self.tensors) > _NAMED else ""
        of = f", of {named}{more}" if named else ""
        instead = f" ({self.calls} seen as {self.found})" if self.found else ""
        return f"{self.what}: {self.key}{of}: declared {self.declared}, traced {self.traced}{instead}."


def differences(declared: Iterable[Traffic], traced: Iterable[Traffic]) -> tuple[Difference, ...]:
    """Every difference, forward first; none where the step communicates what is declared."""
    said, seen = amounts(declared, traced)
    apart = [key for key in ordered({*said, *seen}) if not said.get(key, NONE).allows(seen.get(key, NONE))]
    lost = {key: n for key in apart if (n := said.get(key, NONE).least_calls - seen.get(key, NONE).calls) > 0}
    gained = {key: n for key in apart if (n := seen.get(key, NONE).calls - said.get(key, NONE).calls) > 0}
    sizes = [key for key in apart if key not in lost and key not in gained]
    moved = tuple(_moved(lost, gained, said, seen))
    rest = [*((key, n, "missing") for key, n in lost.items()), *((key, n, "extra") for key, n in gained.items())]
    rest += [(key, 0, "wrong size") for key in sizes]
    places = {key: place for place, key in enumerate(ordered({*said, *seen}))}
    findings = (*moved, *(_difference(what, key, n, said, seen) for key, n, what in rest))  # type: ignore[arg-type]
    return tuple(sorted(findings, key=lambda difference: places[difference.key]))


def amounts(declared: Iterable[Traffic], traced: Iterable[Traffic]) -> tuple[dict[Key, Amount], dict[Key, Amount]]:
    """Both by key. Where a declaration names no dtype, what was seen there is counted whatever its dtype."""
    said = list(declared)
    any_dtype = {(each.phase, each.kind, each.axes) for each in said if each.dtype is None}
    return _added(said, any_dtype), _added(traced, any_dtype)


def _added(
    traffic: Iterable[Traffic], any_dtype: set[tuple[Phase, CollectiveKind, tuple[str, ...]]]
) -> dict[Key, Amount]:
    counts: dict[Key, Amount] = {}
    for each in traffic:
        place = (each.phase, each.kind, each.axes)
        key = Key(*place, "" if place in any_dtype else each.dtype or "")
        counts[key] = counts.get(key, NONE).with_(each)
    return {key: amount for key, amount in counts.items() if (amount.calls, amount.bytes) != (0, 0)}


def ordered(keys: set[Key]) -> list[Key]:
    """Forward first."""
    return sorted(keys, key=lambda key: (PHASES.index(key.phase), key.kind, key.axes, key.dtype))


def _moved(lost: dict[Key, int], gained: dict[Key, int], said: Amounts, seen: Amounts) -> Iterator[Difference]:
    """Takes out of both what was lost in one place and found in another."""
    for what, alike in _ELSEWHERE.items():
        for key in list(lost):
            other = next((o for o, n in gained.items() if n == lost[key] and alike(o) == alike(key)), None)
            if other is not None:
                yield replace(_difference(what, key, lost.pop(key), said, seen), found=other)
                del gained[other]


def _but_dtype(key: Key) -> Key:
    return key._replace(dtype="")


def _but_axes(key: Key) -> Key:
    return key._replace(axes=())


def _but_phase(key: Key) -> Key:
    return key._replace(phase="forward")


_ELSEWHERE: Mapping[What, Callable[[Key], Key]] = {
    "wrong dtype": _but_dtype,
    "wrong axis": _but_axes,
    "wrong phase": _but_phase,
}


def _difference(what: What, key: Key, calls: int, said: Amounts, seen: Amounts) -> Difference:
    declared, traced = said.get(key, NONE), seen.get(key, NONE)
    tensors = _named(declared, traced, said) if what != "extra" else _named(traced, declared, said)
    return Difference(what=what, key=key, declared=declared, traced=traced, calls=calls, tensors=tensors)


def _named(more: Amount, less: Amount, said: Amounts) -> tuple[str, ...]:
    """The tensors of the calls that one side has and the other has not, told by their sizes.

    What was traced has no names: then those of whatever is declared in that size.
    """
    over = Counter({size: n for size, n in (_sizes(more) - _sizes(less)).items() if n > 0})
    own = [portion for portion in more.portions if portion.bytes in over and portion.tensor]
    others = (portion for amount in said.values() for portion in amount.portions)
    known = own or [portion for portion in others if portion.bytes in over and portion.tensor]
    return tuple(dict.fromkeys(portion.tensor for portion in known))


def _sizes(amount: Amount) -> Counter[int]:
    sizes: Counter[int] = Counter()
    for portion in amount.portions:
        sizes[portion.bytes] += portion.calls
    return sizes
