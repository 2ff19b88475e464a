"""A variance that is divided by one less than the number of its terms, or by the number where one less is meant.

Law: the unbiased variance of n terms is n / (n - 1) times the biased one, which norms of layers take.
Source: Ba, Kiros and Hinton, Layer Normalization, equation 3; `correction` of torch.var.
"""

from __future__ import annotations

from collections.abc import Iterator

from conformance.diagnosis.inside.blocks import CLOSE, whole
from conformance.diagnosis.inside.compared import Compared, spoken
from conformance.diagnosis.inside.multiples import multiple_of
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

FEWEST = 3  # values: one or two are a multiple of too many others


def of_variance(compared: Compared, first: Intermediate) -> Iterator[Cause]:
    """Where it makes that multiple of a value of one device, n being the length of a dim of what it is given."""
    given = [compared.known(number) for number in first.sources]
    lengths = {size for operand in given if operand is not None for size in whole(operand).shape if size > 1}
    elements = sum(block.size for block in first.values.values())
    for value in compared.of_twin if lengths and elements >= FEWEST else ():
        factor = multiple_of(compared.matcher, first, value)
        for terms in lengths if factor is not None else ():
            for divisor, meant in ((terms - 1, terms), (terms, terms - 1)):
                if factor is not None and abs(factor * divisor / meant - 1) <= CLOSE:
                    words = f"a variance is divided by {divisor} in place of {meant}: {spoken(first)}"
                    basis = f"it makes {meant}/{divisor} times what {spoken(value)} makes on one device, all of it"
                    yield Cause(cause=words, axis=None, confidence=FOUND, basis=basis)
                    return
