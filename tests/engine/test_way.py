"""What a tensor is made of, and what leads nowhere."""

from __future__ import annotations

from conformance.diagnosis.inside.way import way
from conformance.evidence.intermediates import Intermediate, Intermediates

PHASES = {0: "forward", 1: "forward", 2: "forward", 3: "backward", 4: "update"}
SOURCES = {0: (), 1: (0,), 2: (0,), 3: (1,), 4: (3,)}  # 2 is the second result of a sort, say: nobody takes it


def _program() -> Intermediates:
    values = tuple(
        Intermediate(number=n, operation="sin", place="model.py:1", phase=PHASES[n], sources=SOURCES[n])  # type: ignore[arg-type]
        for n in PHASES
    )
    return Intermediates(values=values, observed={"gradients/w": (3,)})


def test_an_observation_is_made_of_what_leads_to_it() -> None:
    assert way(_program(), "gradients/w") == {0, 1, 3}


def test_an_update_is_made_of_what_leads_to_some_update_or_observation() -> None:
    assert way(_program(), "updates/w") == {0, 1, 3, 4}


def test_of_no_tensor_every_value_is_on_the_way() -> None:
    assert way(_program(), None) == {0, 1, 2, 3, 4}
