"""The models, by stage unit. Attention, feed-forward, vocabulary and norms are those of tensor parallelism.

b: rows of a microbatch  S: tokens  D: hidden  F: features  V: ids of the vocabulary on this rank
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from suites.pipeline.torch_manual.pipeline import Pipeline
from suites.tensor.torch_manual import transformer as tensor
from suites.training.torch.state import Named


class LanguageModel(Pipeline, tensor.LanguageModel):
    """Embedding, decoder layers, and the head with the final norm; with a tensor axis each of them is sharded too."""

    def stage_unit(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        if name == "embedding":
            return {"x": self.embedding(p, batch, observed)}
        if name == "head":
            return self.head(p, x["x"], batch, observed)
        layer = self.recomputed(self.decoder_layer)
        observed[f"activations/{name}"] = y_bSD = layer(x["x"], batch, name, p, observed)
        return {"x": y_bSD}

    def embedding(self, p: Named, batch: Named, observed: Named) -> Tensor:
        x_bSD = observed["activations/embedding"] = self.add_positions(self.embed(batch["tokens"], p))
        return self.dropout(x_bSD, "embedding", batch, observed)

    def head(self, p: Named, x_bSD: Tensor, batch: Named, observed: Named) -> Named:
        x_bSD = observed["activations/final_norm"] = self.norm(x_bSD, "final_norm", p)
        logits_bSV = observed["outputs/logits"] = self.logits(x_bSD, p)
        loss, weight, _ = self.loss_sums(self.token_losses(logits_bSV, self.targets(batch)), batch["mask"], observed)
        return {"loss": loss, "weight": weight}


class Classifier(Pipeline):
    """What models with classes have in common: the loss of their last stage unit."""

    def judged(self, logits_bV: Tensor, batch: Named, observed: Named) -> Named:
        """Sums of cross-entropy with smoothed labels and of the z term, over the valid rows."""
        model, wide_bV, mask_b = self.contract.model, logits_bV.to(self.master), batch["mask"]
        lse_b, smoothing = wide_bV.logsumexp(-1), model.label_smoothing
        target_b = wide_bV.gather(1, batch["targets"][:, None])[:, 0]
        entropy_b = mask_b * (lse_b - (1 - smoothing) * target_b - smoothing * wide_bV.mean(-1))
        z_b = mask_b * model.z_loss * lse_b * lse_b
        observed |= {"outputs/logits": logits_bV, "outputs/token_losses": entropy_b + z_b}
        observed |= {"metrics/cross_entropy": entropy_b.sum(), "metrics/z_loss": z_b.sum()}
        return {"loss": (entropy_b + z_b).sum(), "weight": mask_b.sum()}


class Perceptron(Classifier):
    """Linear layers with GELU between them; a skip tensor is passed through as a second activation."""

    def stage_unit(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        number, model = int(name.rpartition(".")[2]), self.contract.model
        y_bF = x["x"] @ p[f"{name}.weight"] + p[f"{name}.bias"]
        passing = {key: value for key, value in x.items() if key != "x"}
        for begin, end in model.skips:
            if end == number:
                y_bF = y_bF + passing[f"skip.{begin}"]
        if number == len(model.widths) - 2:
            return self.judged(y_bF, batch, observed)
        observed[f"activations/{name}"] = y_bF = functional.gelu(y_bF, approximate="tanh")
        passing |= {f"skip.{begin}": y_bF for begin, _ in model.skips if begin == number}
        wanted = {f"skip.{begin}" for begin, end in model.skips if end > number}
        return {"x": y_bF} | {key: value for key, value in passing.items() if key in wanted}


class Convolution(Classifier):
    """3x3 convolutions with GELU, the mean over the image, a linear head. Images are [b, height, width, channels]."""

    def stage_unit(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        if name == "head":
            mean_bF = x["x"].to(self.master).mean((1, 2)).to(self.compute)
            return self.judged(mean_bF @ p["head.weight"] + p["head.bias"], batch, observed)
        y = self.convolved(x["x"], p[f"{name}.weight"], self.contract.model.strides[int(name.rpartition(".")[2])])
        observed[f"activations/{name}"] = y = functional.gelu(y + p[f"{name}.bias"], approximate="tanh")
        return {"x": y}

    def convolved(self, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        x, weight = x.permute(0, 3, 1, 2), weight.permute(3, 2, 0, 1)
        return torch.conv2d(x, weight, stride=stride, padding=1).permute(0, 2, 3, 1)
