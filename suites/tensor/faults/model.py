"""Parts of the model that are left out, applied twice, or masked wrongly."""

from __future__ import annotations

from suites.tensor.faults import Conforming


class LayerLeftOut(Conforming):
    """One layer too few is built."""

    def decoder_layer(self, x, batch, name, p, observed):
        if name != f"layers.{self.contract.model.layers - 1}":
            return super().decoder_layer(x, batch, name, p, observed)
        own = (parameter.sum() for path, parameter in p.items() if path.startswith(name))
        return x + 0 * sum(own)  # known, without effect


class LayerAppliedTwice(Conforming):
    """The second layer computes with the parameters of the first."""

    def decoder_layer(self, x, batch, name, p, observed):
        first = {path: p[path.replace("layers.1.", "layers.0.")] + 0 * parameter for path, parameter in p.items()}
        return super().decoder_layer(x, batch, name, first, observed)


class PaddingIgnored(Conforming):
    """Attention ignores the attention mask."""

    def attend(self, q, k, v, batch):
        return super().attend(q, k, v, batch | {"attention_mask": 0 * batch["attention_mask"] + 1})


class MaskIgnored(Conforming):
    """Every row counts in the loss."""

    def quadratic(self, y, batch):
        return super().quadratic(y, batch | {"mask": 0 * batch["mask"] + 1})


class DifferentEveryTime(Conforming):
    """The last bit depends on how often the step was called, as a sum in order of arrival depends on the network."""

    calls = 0

    def step(self, state, batch):
        self.calls += 1
        return super().step(state, batch | {"inputs": batch["inputs"] * (1 + self.calls * 2.0**-52)})
