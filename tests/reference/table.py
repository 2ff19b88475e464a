"""The table of models that every test of the references runs through, and how to run one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module

import numpy as np
import pytest

from conformance.contract.contract import Precision, Recipe
from reference.architecture import Architecture, shapes
from reference.batches import random_batches, skewed_batches, text_batches, weighted_batches
from reference.parameters import Arrays, draw

ROWS, LENGTH, STEPS = 6, 7, 3
FRAMEWORKS = ("jax", "torch")


@dataclass(frozen=True, kw_only=True)
class Example:
    """What a reference reads of a contract, with a source of batches."""

    model: Architecture
    recipe: Recipe
    make: Callable[..., list[Arrays]] = random_batches

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return shapes(self.model)

    @cache  # noqa: B019 - a few dozen examples live as long as the tests
    def batches(self) -> list[Arrays]:
        return self.make(self.model, ROWS, LENGTH, 1, STEPS)

    @cache  # noqa: B019
    def parameters(self) -> Arrays:
        return draw(self.shapes, 2)


@cache
def trainer(framework: str, example: Example, dtype: str = "float64"):
    """One Trainer per example, so that JAX compiles its step once for all tests."""
    return import_module(f"reference.{framework}.training").Trainer(example, dtype)


def to_numpy(value) -> np.ndarray:
    """Any dtype of either framework as float64."""
    return np.array(value.double().numpy() if hasattr(value, "double") else value, dtype=np.float64)


@contextmanager
def one_source_of_masks() -> Iterator[None]:
    """Torch drops what JAX drops, so that the two can be compared."""
    torch, drawn = import_module("torch"), import_module("reference.jax.dropout").keep_mask
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "reference.torch.dropout.keep_mask",
            lambda seeds, *others: torch.tensor(np.asarray(drawn(seeds.numpy(), *others))),
        )
        yield


@cache
def run(framework: str, example: Example, dtype: str = "float64") -> tuple[dict[str, np.ndarray], ...]:
    """Per step: observations, then what `collect` gives, in order. What JAX drops, torch drops too."""
    training, steps = trainer(framework, example, dtype), []
    state = training.place(example.parameters())
    for batch in example.batches():
        with one_source_of_masks():
            state, observed = training.step(state, batch)
        steps.append({name: to_numpy(value) for name, value in (dict(observed) | training.collect(state)).items()})
    return tuple(steps)


def replayed(framework: str, example: Example) -> Arrays:
    """The first batch, with the experts that its tokens chose where the model has a mixture."""
    choices = {name: value for name, value in run(framework, example)[0].items() if name.startswith("choices/")}
    return example.batches()[0] | {
        name.replace("choices/", "routing."): value.astype(np.int32) for name, value in choices.items()
    }


def changed(example: Example, **changes) -> Example:
    return replace(example, model=replace(example.model, **changes))


def observe(framework: str, example: Example, batch: dict, parameters: dict | None = None) -> dict[str, np.ndarray]:
    """Observations of one step from the drawn parameters, and what `collect` gives after it."""
    training = trainer(framework, example)
    state, observed = training.step(training.place(parameters or example.parameters()), batch)
    return {name: to_numpy(value) for name, value in (dict(observed) | training.collect(state)).items()}


def same(observed: dict, wanted: dict, *but: str) -> None:
    """The same bits everywhere, except where a name starts with one of `but`."""
    assert list(observed) == list(wanted)
    for tensor in wanted:
        assert tensor.startswith(but) or np.array_equal(observed[tensor], wanted[tensor]), tensor


def relative_error(value: np.ndarray, wanted: np.ndarray) -> float:
    """Largest deviation over the largest magnitude of the tensor; 0 where both vanish."""
    difference, scale = np.max(np.abs(value - wanted)), np.max(np.abs(wanted))
    return 0.0 if difference == 0 else float(difference / scale)


SGD = Recipe(optimizer="sgd", clip_norm=0.05)
SGD_2 = replace(SGD, accumulation=2)
SGD_SHARES = replace(SGD, accumulation=3, shares=(3, 2, 1))
SGD_3 = replace(SGD, accumulation=3, clip_norm=None)
ADAMW = Recipe(optimizer="adamw", clip_norm=0.1)
ADAMW_2 = replace(ADAMW, accumulation=2)
MUON = Recipe(optimizer="muon", clip_norm=0.1)
MUON_SHARES = replace(MUON, accumulation=3, shares=(1, 4, 1), precision=Precision(master="float32"))
GROUPS = replace(ADAMW, decays="weights", weight_decay=0.25)
LAMB = Recipe(optimizer="lamb", clip_norm=0.1, decays="weights")
ADAMW_3 = replace(ADAMW, accumulation=3, clip_norm=None)

_BLOCK = Architecture(kind="attention", hidden=10, num_heads=6, num_kv_heads=6, head_size=4, ffn=14)
_MODEL = replace(_BLOCK, kind="language_model", layers=1, vocabulary=29)


_PERCEPTRON = Architecture(kind="perceptron", widths=(11, 9, 7, 9, 5), skips=((0, 2),))
_SKIPPING = replace(
    _PERCEPTRON, widths=(5, 6, 6, 6, 6), skips=((0, 1), (0, 3), (2, 3), (1, 3)), label_smoothing=0.1, z_loss=0.02
)
_SINGLE = replace(_PERCEPTRON, widths=(8, 4), skips=(), bias=False)
_CONVOLUTION = Architecture(kind="convolution", image=(7, 6, 3), channels=(4, 5), strides=(2, 1), outputs=5)
_STRIDED = replace(_CONVOLUTION, strides=(1, 3), label_smoothing=0.1, z_loss=0.02)
_MOE = replace(_BLOCK, kind="moe", experts=5, top_k=2)
_MIXED = replace(_MODEL, experts=5, top_k=2)
_SHALLOW = replace(_CONVOLUTION, channels=(6,), strides=(3,), bias=False)


def _block(recipe: Recipe, make=random_batches, **changes) -> Example:
    return Example(model=replace(_BLOCK, **changes), recipe=recipe, make=make)


def _model(recipe: Recipe, make=random_batches, **changes) -> Example:
    return Example(model=replace(_MODEL, **changes), recipe=recipe, make=make)


EXAMPLES: dict[str, Example] = {
    "linear": _block(SGD, kind="linear", outputs=9),
    "linear, no bias": _block(ADAMW_3, kind="linear", outputs=9, bias=False),
    "attention": _block(SGD_2),
    "attention, fused": _block(ADAMW, fused_qkv=True, positions="none"),
    "attention, grouped": _block(SGD_3, num_kv_heads=2, head_norm=True),
    "attention, fused gradient": _block(SGD_2, num_kv_heads=3, fused_gradient=True),
    "attention, one key head": _block(ADAMW_2, num_kv_heads=1, bias=False, fused_qkv=True, head_norm=True),
    "feed-forward": _block(SGD, kind="feedforward"),
    "feed-forward, gated": _block(ADAMW_2, kind="feedforward", activation="swiglu"),
    "feed-forward, fused gate": _block(SGD_3, kind="feedforward", activation="swiglu", fused_gate_up=True),
    "layer": _block(SGD, kind="layer", num_kv_heads=3),
    "layer, layer norm": _block(ADAMW_3, kind="layer", norm="layer", fused_qkv=True, rotary_base=100.0),
    "model": _model(SGD_2, layers=2),
    "model, tied": _model(ADAMW, tied=True, num_kv_heads=2, head_norm=True, activation="swiglu"),
    "model, sinusoidal": _model(SGD_3, positions="sinusoidal", norm="layer", tied=True, fused_qkv=True),
    "model, no positions": _model(ADAMW_2, positions="none", num_kv_heads=1, bias=False),
    "model, smoothing": _model(SGD, label_smoothing=0.2, layers=0),
    "model, z-loss": _model(SGD_2, z_loss=0.01, layers=0, tied=True, norm="layer"),
    "model, everything": _model(
        ADAMW_2, layers=2, num_kv_heads=3, head_norm=True, activation="swiglu", fused_gate_up=True, fused_qkv=True,
        label_smoothing=0.1, z_loss=0.02, positions="rotary", norm="layer",
    ),
    "attention, bidirectional": _block(SGD_2, causal=False, num_kv_heads=2),
    "attention, documents": _block(SGD, causal=False, documents=True, num_kv_heads=3),
    "feed-forward, adapter": _block(ADAMW_2, kind="feedforward", activation="swiglu", adapter=3),
    "layer, dropout": _block(SGD_2, kind="layer", dropout=0.25, documents=True),
    "model, packed": _model(ADAMW_3, layers=2, documents=True, shift_labels=True, dropout=0.25, adapter=2, tied=True),
    "model, shifted": _model(SGD_2, skewed_batches, layers=0, shift_labels=True, documents=True, dropout=0.5),
    "feed-forward, orthogonal": _block(MUON, kind="feedforward", adapter=3),
    "layer, shares": _block(SGD_SHARES, kind="layer", dropout=0.25),
    "model, orthogonal": _model(MUON_SHARES, layers=2, num_kv_heads=2, fused_qkv=True),
    "model, skewed": _model(SGD_3, skewed_batches, num_kv_heads=1, dropout=0.125, positions="sinusoidal"),
    "model, weighted": _model(ADAMW_2, weighted_batches, z_loss=0.01, causal=False, norm="layer"),
    "linear, weighted": _block(SGD_2, weighted_batches, kind="linear", outputs=9),
    "model, packed text": _model(
        SGD_2, text_batches, vocabulary=257, documents=True, shift_labels=True, dropout=0.25, tied=True, layers=2
    ),
    "layer, decay groups": _block(GROUPS, kind="layer", norm="layer", num_kv_heads=3),
    "model, trust ratio": _model(LAMB, tied=True, num_kv_heads=2, head_norm=True, norm="layer"),
    "contrastive": _block(SGD, kind="contrastive"),
    "contrastive, skewed": _block(ADAMW, skewed_batches, kind="contrastive", activation="swiglu", bias=False),
    "perceptron": Example(model=_PERCEPTRON, recipe=SGD_2),
    "perceptron, many skips": Example(model=_SKIPPING, recipe=ADAMW_3, make=weighted_batches),
    "perceptron, one layer": Example(model=_SINGLE, recipe=MUON_SHARES, make=skewed_batches),
    "convolution": Example(model=_CONVOLUTION, recipe=SGD_2),
    "convolution, strided": Example(model=_STRIDED, recipe=ADAMW, make=weighted_batches),
    "convolution, no bias": Example(model=_SHALLOW, recipe=SGD_SHARES, make=skewed_batches),
    "moe": Example(model=_MOE, recipe=SGD_2),
    "moe, everything": Example(
        model=replace(
            _MOE, activation="swiglu", shared_ffn=6, scores="sigmoid", normalized_gates=True, capacity_factor=0.8,
            router_bias=True, bias_update_rate=0.05, balance_loss=0.5, router_z_loss=0.25,
        ),
        recipe=ADAMW_2,
    ),
    "moe, places of a batch": Example(
        model=replace(_MOE, capacity_factor=0.8, capacity_scope="batch", normalized_gates=True), recipe=SGD_SHARES
    ),
    "moe, gates before": Example(
        model=replace(_MOE, bias=False, gates_before=True, top_k=3, balance_loss=0.25, balance_scope="row"),
        recipe=SGD_SHARES,
        make=skewed_batches,
    ),
    "layer, moe": _block(
        SGD, kind="layer", experts=3, scores="sigmoid", dropout=0.25, router_bias=True, bias_update_rate=0.03
    ),
    "model, moe": Example(
        model=replace(
            _MIXED, layers=2, capacity_factor=1.0, balance_loss=0.25, router_z_loss=0.125, z_loss=0.01, tied=True
        ),
        recipe=ADAMW,
    ),
    "model, moe every other": Example(
        model=replace(
            _MIXED, layers=4, moe_every=2, shared_ffn=6, router_bias=True, bias_update_rate=0.05, adapter=2,
            activation="swiglu", fused_gate_up=True, normalized_gates=True, balance_loss=0.5, balance_scope="row",
        ),
        recipe=SGD,
        make=weighted_batches,
    ),
    "moe, orthogonal": Example(model=replace(_MOE, shared_ffn=6, router_bias=True, bias_update_rate=0.1), recipe=MUON),
    "model, text": _model(ADAMW_2, text_batches, vocabulary=261, label_smoothing=0.1, z_loss=0.01, tied=True),
}  # fmt: skip
PLAIN_MOE = replace(EXAMPLES["moe"], recipe=replace(ADAMW, clip_norm=None))
