"""Negative controls: unusual, and right."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class ChoicesInReverse(Conforming):
    """The choices of a token travel and are summed in the opposite order."""

    def mixed(self, x, gates, admitted, name, p):
        order = list(range(admitted.shape[-1]))[::-1]
        return super().mixed(x, gates[..., order], admitted[..., order], name, p)
