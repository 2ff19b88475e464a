"""Rows in the order of one device, where the program says that it keeps its rows in another one."""

from __future__ import annotations

from collections.abc import Iterator

from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

OTHER_PLACES = "right rows, of other places than those that they are combined with"


def of_orders(compared: Compared, value: Intermediate) -> Iterator[Cause]:
    """A block in the order of one device beside one in the order in which the program keeps its rows."""
    matches = [compared.matches[number] for number in value.sources]
    divided = [place for place, match in enumerate(matches) if match is not None and match.canonical and match.dims]
    kept = [match for match in matches if match is not None and match.dims and not match.canonical]
    for place in divided[:1] if kept else ():
        made = spoken(compared.values[value.sources[place]])
        said = f"{OTHER_PLACES}: operand {place} of {spoken(value)}, which {made} makes"
        basis = "it is a block in the order of one device, the other operand in that in which the program keeps rows"
        yield Cause(cause=said, axis=None, confidence=FOUND, basis=basis)
