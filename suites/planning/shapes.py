"""Published shapes of decoder models, and the one for any number of parameters.

Sources: Brown et al., Language Models are Few-Shot Learners, table 2.1; Touvron et al., LLaMA, table 2, and Llama 2,
table 1 and appendix A.2.1; Llama Team, The Llama 3 Herd of Models, table 3 and section 3.4.1 (first stage); Jiang et
al., Mixtral of Experts, table 1 (8x7B; 8x22B by its published configuration), whose batches are not known: two million
tokens stand for them.
Vocabularies are filled up to a multiple of 128, as Megatron-LM does, so that they divide. Unlike GPT-3, models of
its shapes have sinusoidal positions, dense attention in every layer, and a head that is not the embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

from conformance.cases.plannable import Sized
from reference.architecture import Architecture, shapes

NEAR = 0.08  # a published shape stands for a size that differs by less
HEADS = 8  # hidden features of a derived shape are a multiple of so many heads


@dataclass(frozen=True, kw_only=True)
class Published:
    """One row of a table: the shape, and the batch that it was trained with."""

    name: str
    model: Architecture
    batch_tokens: int
    length: int
    source: str

    @property
    def parameters(self) -> int:
        return parameters(self.model)


@cache
def parameters(model: Architecture) -> int:
    """How many a model has."""
    return sum(map(math.prod, shapes(model).values()))


def _gpt(name: str, layers: int, hidden: int, heads: int, batch: float) -> Published:
    model = Architecture(
        kind="language_model", hidden=hidden, layers=layers, num_heads=heads, num_kv_heads=heads,
        head_size=hidden // heads, ffn=4 * hidden, vocabulary=50304, norm="layer", positions="sinusoidal",
    )  # fmt: skip
    source = "Brown et al., Language Models are Few-Shot Learners, table 2.1"
    return Published(name=name, model=model, batch_tokens=round(batch * 10**6), length=2048, source=source)


def _llama(name: str, hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, version: int) -> Published:
    model = Architecture(
        kind="language_model", hidden=hidden, layers=layers, num_heads=heads, num_kv_heads=kv_heads,
        head_size=hidden // heads, ffn=ffn, vocabulary=128256 if version == 3 else 32000, activation="swiglu",
        bias=False, rotary_base=500000.0 if version == 3 else 10000.0,
    )  # fmt: skip
    source = "Llama Team, The Llama 3 Herd of Models, table 3" if version == 3 else "Touvron et al., Llama 2, table 1"
    return Published(
        name=name, model=model, batch_tokens=4 * 2**20, length=8192 if version == 3 else 4096, source=source
    )


TABLE = (
    _gpt("GPT-3 Small", 12, 768, 12, 0.5),
    _gpt("GPT-3 Medium", 24, 1024, 16, 0.5),
    _gpt("GPT-3 Large", 24, 1536, 16, 0.5),
    _gpt("GPT-3 XL", 24, 2048, 16, 1.0),
    _gpt("GPT-3 2.7B", 32, 2560, 32, 1.0),
    _llama("Llama 2 7B", 4096, 32, 32, 32, 11008, 2),
    _llama("Llama 3 8B", 4096, 32, 32, 8, 14336, 3),
    _gpt("GPT-3 13B", 40, 5120, 40, 2.0),
    _llama("Llama 2 70B", 8192, 80, 64, 8, 28672, 2),
    _gpt("GPT-3 175B", 96, 12288, 96, 3.2),
    _llama("Llama 3 405B", 16384, 126, 128, 8, 53248, 3),
)


def _mixtral(name: str, hidden: int, layers: int, heads: int, ffn: int) -> Sized:
    """Mixtures in all layers, 8 experts of which a token has two; 1.25 times as many places as choices."""
    model = Architecture(
        kind="language_model", hidden=hidden, layers=layers, num_heads=heads, num_kv_heads=8,
        head_size=hidden // heads, ffn=ffn, vocabulary=32000, activation="swiglu", bias=False, rotary_base=1e6,
        experts=8, top_k=2, normalized_gates=True, capacity_factor=1.25, balance_loss=0.02, balance_scope="row",
    )  # fmt: skip
    source = (
        f"Mixtral {name}: Jiang et al., Mixtral of Experts, table 1; with places that are limited, which it has not"
    )
    return Sized(model=model, parameters=parameters(model), rows=512, length=4096, source=source)


MIXTURES = {"8x7B": _mixtral("8x7B", 4096, 32, 32, 14336), "8x22B": _mixtral("8x22B", 6144, 56, 48, 16384)}


def sized(number: int) -> Sized:
    """The published shape of about so many parameters, or the nearest one widened and deepened alike."""
    nearest = min(TABLE, key=lambda row: abs(math.log(row.parameters / number)))
    count, source = nearest.parameters, f"{nearest.name}: {nearest.source}"
    model = nearest.model
    if abs(count / number - 1) > NEAR:
        model = _derived(nearest.model, number / count)
        source = f"{nearest.name} ({nearest.source}), width and depth scaled alike"
    rows = max(64, 64 * round(nearest.batch_tokens / nearest.length / 64))
    return Sized(model=model, parameters=parameters(model), rows=rows, length=nearest.length, source=source)


def _derived(model: Architecture, factor: float) -> Architecture:
    """Parameters of layers grow with depth times width squared; the depth takes up what the rounding of heads left."""
    heads = max(HEADS, HEADS * round(model.num_heads * factor ** (1 / 3) / HEADS))
    hidden = heads * model.head_size
    scale = hidden / model.hidden
    group = model.num_heads // model.num_kv_heads
    target = parameters(model) * factor
    one_layer = replace(
        model, hidden=hidden, num_heads=heads, num_kv_heads=max(1, heads // group), layers=1,
        ffn=128 * max(1, round(model.ffn * scale / 128)),
    )  # fmt: skip
    layer = parameters(replace(one_layer, layers=2)) - parameters(one_layer)
    outside = parameters(one_layer) - layer
    return replace(one_layer, layers=max(1, round((target - outside) / layer)))
