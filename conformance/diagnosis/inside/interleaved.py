"""Elements that are taken in turn, where one device takes a block: pairs of neighbours in place of halves, say.

So it is with rotary embeddings, of which there are two conventions.
Source: Su et al., RoFormer, section 3.4.2, and its implementations in GPT-J (neighbours) and GPT-NeoX (halves).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from conformance.diagnosis.inside.blocks import whole
from conformance.diagnosis.inside.compared import spoken
from conformance.diagnosis.inside.flow import Flow
from conformance.diagnosis.inside.kinds import CUTS
from conformance.diagnosis.inside.sureness import FOUND
from conformance.evidence.intermediates import Intermediate
from conformance.records.results import Cause

SPELLED = {2: "second", 3: "third"}


def of_interleaved(flow: Flow, first: Intermediate) -> Iterator[Cause]:
    """It or what it is made of, where that is a cut, held against the cuts of the same value on one device."""
    compared = flow.compared
    for cut in (first, *(compared.values[number] for number in first.sources)):
        given = compared.known(cut.sources[0]) if len(cut.sources) == 1 and cut.operation in CUTS else None
        step = _step(cut, compared.values[cut.sources[0]]) if given is not None else None
        if given is None or step is None:
            continue
        for block in flow.users_there(given):
            if block.operation in CUTS and _is_part(whole(block), whole(given), step):
                words = f"every {SPELLED.get(step, f'{step}th')} element is taken, where one device takes a block"
                basis = f"{spoken(block)} takes 1/{step} of the last dim of the same value on one device, in one piece"
                yield Cause(cause=f"{words}: {spoken(cut)}", axis=None, confidence=FOUND, basis=basis)
                return


def _step(cut: Intermediate, of: Intermediate) -> int | None:
    """The step with which every rank takes elements along the last dim; None where it takes them otherwise."""
    steps = {_step_of(cut.values[rank], of.values[rank]) for rank in cut.values}
    return steps.pop() if len(steps) == 1 else None


def _step_of(part: np.ndarray, of: np.ndarray) -> int | None:
    step = of.size // part.size if part.ndim and part.size and of.size % part.size == 0 else 1
    along = of.reshape(*part.shape[:-1], -1) if step > 1 else part
    return step if step > 1 and any(np.array_equal(part, along[..., n::step]) for n in range(step)) else None


def _is_part(part: np.ndarray, of: np.ndarray, step: int) -> bool:
    """Whether one device takes one of so many equal parts along the last dim."""
    if part.size * step != of.size:
        return False
    along = of.reshape(*part.shape[:-1], -1)
    return any(np.array_equal(part, block) for block in np.split(along, step, axis=-1))
