"""A multilayer perceptron classifier.

B: rows  I, O: input and output features of a layer
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from reference.architecture import Architecture
from reference.torch.forward import Forward, judged
from reference.torch.layers import Linear, Tensors, dtype_of


class Perceptron(nn.Module):
    """h_i = gelu(h_(i-1) w_i + b_i + sum of h_k over skips (k, i)); the last layer, which gives logits, has no GELU.

    GELU is in its tanh form. Source of the skips: He et al., Deep Residual Learning for Image Recognition, section 3.2.
    """

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.model = model
        self.statistics = dtype_of(statistics)
        self.layers = nn.ModuleList([Linear(inputs, outputs, model.bias) for inputs, outputs in pairwise(model.widths)])

    def forward(self, batch: Tensors) -> Forward:
        observed: Tensors = {}
        x_BI, last = batch["inputs"], len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            y_BO = layer(x_BI)
            for source in (source for source, target in self.model.skips if target == i):
                y_BO = y_BO + observed[f"activations/layers.{source}"]
            x_BI = y_BO if i == last else nn.functional.gelu(y_BO, approximate="tanh")
            observed["outputs/logits" if i == last else f"activations/layers.{i}"] = x_BI
        return judged(observed, batch["targets"], batch["mask"], self.model, self.statistics)
