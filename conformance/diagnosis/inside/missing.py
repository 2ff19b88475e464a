"""A sum that lacks one of its terms: a gradient that does not come through one of the uses of its parameter."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.inside.blocks import agree, filled, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.kinds import ADDS
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause


def missing_term(compared: Compared) -> Iterator[Cause]:
    """Where what the tensor is, is one of the terms that one device adds up to make it."""
    for number in compared.wide.observed.get(compared.tensor or "", ()):
        match = compared.matches.get(number)
        if match is None or match.partial:
            continue
        held = compared.matcher.whole(match)
        for total in (value for value in compared.of_twin if value.operation in ADDS):
            terms = [value for value in compared.twin.values if value.number in total.sources]
            lacking = [term for term in terms if not _same(term, held)]
            if len(lacking) == len(terms) - 1 and lacking and not _same(total, held):
                said = " and ".join(spoken(term) for term in lacking)
                basis = f"{spoken(total)} adds up terms of which the tensor is one"
                yield Cause(cause=f"a term of the sum is missing: {said}", axis=None, confidence=FOUND, basis=basis)
                return


def _same(value: Intermediate, held: np.ndarray) -> bool:
    return agree({0: filled(whole(value))}, lambda _: held, float(np.abs(held).max()))
