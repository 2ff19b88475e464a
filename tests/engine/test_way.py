"""What a tensor is made of, and what leads nowhere."""

from __future__ import annotations

from conformance.diagnosis.inside.way import way
from conformance.evidence.intermediates import Intermediate, Intermediates

# The first sort is used by its indices alone; what nothing is made of otherwise may be written into the state.
OPERATIONS = {0: "sin", 1: "cos", 2: "sort", 3: "sort", 4: "mul", 5: "add"}
SOURCES = {0: (), 1: (0,), 2: (0,), 3: (0,), 4: (3, 1), 5: (1,)}


def _program() -> Intermediates:
    values = tuple(
        Intermediate(number=n, operation=name, place="model.py:1", phase="forward", sources=SOURCES[n])
        for n, name in OPERATIONS.items()
    )
    return Intermediates(values=values, observed={"gradients/w": (4,)})


def test_an_observation_is_made_of_what_leads_to_it() -> None:
    assert way(_program(), "gradients/w") == {0, 1, 3, 4}


def test_what_is_collected_behind_the_step_may_be_made_of_anything_but_an_unused_sort() -> None:
    assert way(_program(), "ema/w") == {0, 1, 3, 4, 5}
