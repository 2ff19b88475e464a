"""Negative controls: unusual but correct programs."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class ChoicesInReverse(Conforming):
    """The choices of a token travel and are summed in the opposite order."""

    def mixed(self, x, gates, admitted, name, p):
        order = list(range(admitted.shape[-1]))[::-1]
        return super().mixed(x, gates[..., order], admitted[..., order], name, p)


class RouterInHalves(Conforming):
    """The features of a token are summed in two halves."""

    def router_logits(self, x, w):
        half = len(w) // 2
        return super().router_logits(x[..., :half], w[:half]) + super().router_logits(x[..., half:], w[half:])
