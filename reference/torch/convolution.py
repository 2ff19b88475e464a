"""A classifier of images: convolutions, the mean over the image, and a linear head.

B: rows  H, W: height and width of an image  C: its channels
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from reference.architecture import Architecture
from reference.torch.forward import Forward, judged
from reference.torch.layers import Linear, Tensors, dtype_of, unset


class Convolution(nn.Module):
    """y[h, w] = b + sum over the 3x3 neighbours of pixel (s h, s w), times their weights; zeros lie beyond the edge.

    Law: of n pixels along a dim a stride of s leaves ceil(n / s). The weight is [height, width, in, out], not flipped.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, bias: bool) -> None:
        super().__init__()
        self.weight = unset(3, 3, inputs, outputs)
        self.bias = unset(outputs) if bias else None
        self.stride = stride

    def forward(self, x_BHWC: Tensor) -> Tensor:
        x_BCHW, weight = x_BHWC.permute(0, 3, 1, 2), self.weight.permute(3, 2, 0, 1)
        y_BHWC = nn.functional.conv2d(x_BCHW, weight, stride=self.stride, padding=1).permute(0, 2, 3, 1)
        return y_BHWC if self.bias is None else y_BHWC + self.bias


class ConvolutionNetwork(nn.Module):
    """Convolutions with GELU (tanh form) after each; their mean over the image, in `statistics`; the head."""

    def __init__(self, model: Architecture, statistics: str) -> None:
        super().__init__()
        self.model = model
        self.statistics = dtype_of(statistics)
        sizes = zip(pairwise((model.image[2], *model.channels)), model.strides, strict=True)
        self.convolutions = nn.ModuleList([Convolution(*size, stride, model.bias) for size, stride in sizes])
        self.head = Linear(model.channels[-1], model.outputs, model.bias)

    def forward(self, batch: Tensors) -> Forward:
        observed: Tensors = {}
        x_BHWC = batch["inputs"]
        for i, convolution in enumerate(self.convolutions):
            x_BHWC = nn.functional.gelu(convolution(x_BHWC), approximate="tanh")
            observed[f"activations/convolutions.{i}"] = x_BHWC
        mean_BC = x_BHWC.to(self.statistics).mean(dim=(1, 2)).to(x_BHWC.dtype)
        observed["outputs/logits"] = self.head(mean_BC)
        return judged(observed, batch["targets"], batch["mask"], self.model, self.statistics)
