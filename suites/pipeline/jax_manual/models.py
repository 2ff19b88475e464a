"""The models, by stage unit. Attention, feed-forward, vocabulary and norms are those of tensor parallelism.

b: rows of a microbatch  S: tokens  D: hidden  F: features  V: ids of the vocabulary on this device
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from conformance.contract.implementation import Unsupported
from suites.pipeline.jax_manual.pipeline import Pipeline
from suites.tensor.jax_manual import transformer as tensor
from suites.training.jax.state import Named


class LanguageModel(Pipeline, tensor.LanguageModel):
    """Embedding, decoder layers, and the head with the final norm; with a tensor axis each of them is sharded too."""

    def require_supported(self) -> None:
        super().require_supported()
        if any(map(self.is_repeated, self.contract.shapes)):
            raise Unsupported(
                f"{self.contract.model.num_kv_heads} key heads would be repeated on {self.tensor_size()} devices of "
                f"the {self.tensor_axis} axis: a vector of many parameters has each element once."
            )

    def stage_unit(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        if name == "embedding":
            return {"x": self.embedding(p, batch, observed)}
        if name == "head":
            return self.head(p, x["x"], batch, observed)
        layer = self.recomputed(self.decoder_layer)
        observed[f"activations/{name}"] = y_bSD = layer(x["x"], batch, name, p, observed)
        return {"x": y_bSD}

    def embedding(self, p: Named, batch: Named, observed: Named) -> jax.Array:
        x_bSD = observed["activations/embedding"] = self.add_positions(self.embed(batch["tokens"], p))
        return self.dropout(x_bSD, "embedding", batch, observed)

    def head(self, p: Named, x_bSD: jax.Array, batch: Named, observed: Named) -> Named:
        x_bSD = observed["activations/final_norm"] = self.norm(x_bSD, "final_norm", p)
        logits_bSV = observed["outputs/logits"] = self.logits(x_bSD, p)
        token_losses = self.token_losses(logits_bSV, self.targets(batch))
        loss, weight, _ = self.loss_sums(token_losses, batch["mask"].astype(self.master), observed)
        return {"loss": loss, "weight": weight}


class Classifier(Pipeline):
    """What models with classes have in common: the loss of their last stage unit."""

    def judged(self, logits_bV: jax.Array, batch: Named, observed: Named) -> Named:
        """Sums of cross-entropy with smoothed labels and of the z term, over the valid rows."""
        model, wide_bV = self.contract.model, logits_bV.astype(self.master)
        mask_b, lse_b = batch["mask"].astype(self.master), jax.nn.logsumexp(wide_bV, axis=-1)
        target_b = jnp.take_along_axis(wide_bV, batch["targets"][:, None], axis=1)[:, 0]
        smoothing = model.label_smoothing
        entropy_b = lse_b - (1 - smoothing) * target_b - smoothing * jnp.mean(wide_bV, axis=-1)
        z_b = model.z_loss * lse_b * lse_b
        losses_b = mask_b * (entropy_b + z_b)
        observed |= {"outputs/logits": logits_bV, "outputs/token_losses": losses_b}
        observed |= {"metrics/cross_entropy": jnp.sum(mask_b * entropy_b), "metrics/z_loss": jnp.sum(mask_b * z_b)}
        return {"loss": jnp.sum(losses_b), "weight": jnp.sum(mask_b)}


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
        observed[f"activations/{name}"] = y_bF = jax.nn.gelu(y_bF, approximate=True)
        passing |= {f"skip.{begin}": y_bF for begin, _ in model.skips if begin == number}
        wanted = {f"skip.{begin}" for begin, end in model.skips if end > number}
        return {"x": y_bF} | {key: value for key, value in passing.items() if key in wanted}


class Convolution(Classifier):
    """3x3 convolutions with GELU, the mean over the image, a linear head. Images are [b, height, width, channels]."""

    def stage_unit(self, name: str, p: Named, x: Named, batch: Named, observed: Named) -> Named:
        if name == "head":
            mean_bF = jnp.mean(x["x"].astype(self.master), axis=(1, 2)).astype(self.compute)
            return self.judged(mean_bF @ p["head.weight"] + p["head.bias"], batch, observed)
        y = self.convolved(x["x"], p[f"{name}.weight"], self.contract.model.strides[int(name.rpartition(".")[2])])
        observed[f"activations/{name}"] = y = jax.nn.gelu(y + p[f"{name}.bias"], approximate=True)
        return {"x": y}

    def convolved(self, x: jax.Array, weight: jax.Array, stride: int) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x, weight, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
