"""A multilayer perceptron classifier.

B: rows  I, O: input and output features of a layer
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import jax
from flax import nnx

from reference.architecture import Architecture
from reference.jax.forward import Forward, judged
from reference.jax.layers import Linear, Tensors


class Perceptron(nnx.Module):
    """h_i = gelu(h_(i-1) w_i + b_i + sum of h_k over skips (k, i)); the last layer, which gives logits, has no GELU.

    GELU is in its tanh form. Source of the skips: He et al., Deep Residual Learning for Image Recognition, section 3.2.
    """

    def __init__(self, model: Architecture, statistics: str) -> None:
        self.model = model
        self.statistics = statistics
        self.layers = nnx.List([Linear(inputs, outputs, model.bias) for inputs, outputs in pairwise(model.widths)])

    def __call__(self, batch: Tensors) -> Forward:
        observed: Tensors = OrderedDict()
        x_BI, last = batch["inputs"], len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            y_BO = layer(x_BI)
            for source in (source for source, target in self.model.skips if target == i):
                y_BO = y_BO + observed[f"activations/layers.{source}"]
            x_BI = y_BO if i == last else jax.nn.gelu(y_BO, approximate=True)
            observed["outputs/logits" if i == last else f"activations/layers.{i}"] = x_BI
        return judged(observed, batch["targets"], batch["mask"], self.model, self.statistics)
