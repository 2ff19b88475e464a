"""A variance that is divided by one less than the number of its terms, or by the number where one less is meant.

Law: the unbiased variance of n terms is n / (n - 1) times the biased one, which norms of layers take.
Source: Ba, Kiros and Hinton, Layer Normalization, equation 3; `correction` of torch.var.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.inside.blocks import CLOSE, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

FEWEST = 3  # values: one or two are a multiple of too many others


def of_variance(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Where it makes that multiple of a value of one device, n being the length of a dim of what it is given."""
    given = [compared.known(number) for number in first.sources]
    lengths = {size for operand in given if operand is not None for size in whole(operand).shape if size > 1}
    for value in compared.of_twin if lengths else ():
        factor = _multiple(compared, first, value)
        for terms in lengths if factor is not None else ():
            for divisor, meant in ((terms - 1, terms), (terms, terms - 1)):
                if factor is not None and abs(factor * divisor / meant - 1) <= CLOSE:
                    words = f"a variance is divided by {divisor} in place of {meant}: {spoken(first)}"
                    basis = f"it makes {meant}/{divisor} times what {spoken(value)} makes on one device, all of it"
                    yield Cause(cause=words, axis=None, confidence=FOUND, basis=basis)
                    return


def _multiple(compared: Compared, first: Intermediate, value: Intermediate) -> float | None:
    """By what the blocks of all ranks are a multiple of a value of one device, but for 1."""
    shape = next(iter(first.values.values())).shape
    for dims in compared.matcher.placements(value, shape):
        held = np.concatenate([block.ravel() for block in first.values.values()])
        wanted = np.concatenate([compared.matcher.block(value, dims, rank).ravel() for rank in first.values])
        if not (np.isfinite(held).all() and np.isfinite(wanted).all()):
            return None
        power = float(wanted @ wanted)
        factor = float(held @ wanted) / power if power and held.size >= FEWEST else 1.0
        left = float(np.abs(held - factor * wanted).max(initial=0.0))
        if abs(factor - 1) > CLOSE and left <= CLOSE * float(np.abs(held).max()):
            return factor
    return None
