"""A classifier of images: convolutions, the mean over the image, and a linear head.

B: rows  H, W: height and width of an image  C: its channels
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from reference.architecture import Architecture
from reference.jax.forward import Forward, judged
from reference.jax.layers import Linear, Tensors, unset


class Convolution(nnx.Module):
    """y[h, w] = b + sum over the 3x3 neighbours of pixel (s h, s w), times their weights; zeros lie beyond the edge.

    Law: of n pixels along a dim a stride of s leaves ceil(n / s). The weight is [height, width, in, out], not flipped.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool) -> None:
        self.weight = unset(3, 3, inputs, outputs)
        self.bias = unset(outputs) if bias else None
        self.stride = stride

    def __call__(self, x_BHWC: jax.Array) -> jax.Array:
        y_BHWC = jax.lax.conv_general_dilated(
            x_BHWC,
            self.weight[...],
            window_strides=(self.stride, self.stride),
            padding=((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return y_BHWC if self.bias is None else y_BHWC + self.bias[...]


class ConvolutionNetwork(nnx.Module):
    """Convolutions with GELU (tanh form) after each; their mean over the image, in `statistics`; the head."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        self.model = model
        self.statistics = statistics
        sizes = zip(pairwise((model.image[2], *model.channels)), model.strides, strict=True)
        self.convolutions = nnx.List([Convolution(*size, stride, model.bias) for size, stride in sizes])
        self.head = Linear(model.channels[-1], model.outputs, model.bias)

    def __call__(self, batch: Tensors) -> Forward:
        observed: Tensors = OrderedDict()
        x_BHWC = batch["inputs"]
        for i, convolution in enumerate(self.convolutions):
            x_BHWC = observed[f"activations/convolutions.{i}"] = jax.nn.gelu(convolution(x_BHWC), approximate=True)
        mean_BC = jnp.mean(x_BHWC.astype(self.statistics), axis=(1, 2)).astype(x_BHWC.dtype)
        observed["outputs/logits"] = self.head(mean_BC)
        return judged(observed, batch["targets"], batch["mask"], self.model, self.statistics)
