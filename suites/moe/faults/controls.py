"""Negative controls: unusual, and right."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class ChoicesInReverse(Conforming):
    """The choices of a token travel and are summed in the opposite order."""

    def mixed(self, x, gates, admitted, name, p):
        order = list(range(admitted.shape[-1]))[::-1]
        return super().mixed(x, gates[..., order], admitted[..., order], name, p)


class NormOfNorms(Conforming):
    """Each rank takes the root of its squares; their squares are summed."""

    def global_norm(self, gradients):
        local = sum(self.squared_norm(name, g) for name, g in gradients.items()) ** 0.5
        return self.sum_over_model(local * local) ** 0.5
