"""A language model token by token and head by head in plain numpy: slow, without a batched product, easy to read."""

import math
from dataclasses import replace

import numpy as np
import pytest

from reference.architecture import Architecture
from tests.reference.table import EXAMPLES, FRAMEWORKS, relative_error, run

EXAMPLE = EXAMPLES["model, everything"]
VARIANTS = {
    "fused, layer norm": EXAMPLE,
    "separate, RMS norm, tied": replace(
        EXAMPLE, model=replace(EXAMPLE.model, fused_qkv=False, fused_gate_up=False, norm="rms", tied=True)
    ),
    "documents both ways, dropout, adapter": replace(
        EXAMPLE, model=replace(EXAMPLE.model, causal=False, documents=True, shift_labels=True, dropout=0.25, adapter=3)
    ),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_and_losses_by_hand(framework, variant):
    example = VARIANTS[variant]
    model, p, batch = example.model, example.parameters(), example.batches()[0]
    observed = run(framework, example)[0]
    for row in range(len(batch["tokens"])):
        logits = _logits(model, p, {key: value[row] for key, value in batch.items()}, _kept(observed, row))
        targets = [*batch["tokens"][row, 1:], 0] if model.shift_labels else batch["targets"][row]
        losses = [
            mask * _loss(model, token_logits, target)
            for token_logits, target, mask in zip(logits, targets, batch["mask"][row], strict=True)
        ]
        assert relative_error(observed["outputs/logits"][row], np.array(logits)) < 1e-13
        if np.any(losses):
            assert relative_error(observed["outputs/token_losses"][row], np.array(losses)) < 1e-13


def _loss(model: Architecture, logits: np.ndarray, target: int) -> float:
    lse = math.log(sum(math.exp(logit) for logit in logits))
    smoothed = np.full(model.vocabulary, model.label_smoothing / model.vocabulary)
    smoothed[target] += 1 - model.label_smoothing
    return sum(smoothed * (lse - logits)) + model.z_loss * lse**2


def _kept(observed: dict, row: int) -> dict[str, np.ndarray]:
    """Site -> mask [S, D] of a row, as it was drawn."""
    return {name.removeprefix("masks/"): value[row] for name, value in observed.items() if name.startswith("masks/")}


def _dropped(model: Architecture, kept: dict, site: str, x: list[np.ndarray]) -> list[np.ndarray]:
    if not model.dropout:
        return x
    return [keep * token / (1 - model.dropout) for keep, token in zip(kept[site], x, strict=True)]


def _logits(model: Architecture, p: dict, row: dict, kept: dict) -> list[np.ndarray]:
    x = _dropped(model, kept, "embedding", [p["embedding.weight"][token] for token in row["tokens"]])
    for i in range(model.layers):
        mixed = _attention(
            model, p, f"layers.{i}.attention", [_norm(model, p, f"layers.{i}.attention_norm", t) for t in x], row
        )
        mixed = _dropped(model, kept, f"layers.{i}.attention", mixed)
        x = [token + change for token, change in zip(x, mixed, strict=True)]
        fed = [
            _feedforward(model, p, f"layers.{i}.feedforward", _norm(model, p, f"layers.{i}.feedforward_norm", t))
            for t in x
        ]
        fed = _dropped(model, kept, f"layers.{i}.feedforward", fed)
        x = [token + change for token, change in zip(x, fed, strict=True)]
    head = p["embedding.weight"].T if model.tied else p["head.weight"]
    return [_norm(model, p, "final_norm", token) @ head for token in x]


def _norm(model: Architecture, p: dict, name: str, x: np.ndarray) -> np.ndarray:
    if model.norm == "rms":
        return x / math.sqrt(sum(x**2) / len(x) + model.norm_epsilon) * p[f"{name}.scale"]
    centred = x - sum(x) / len(x)
    return centred / math.sqrt(sum(centred**2) / len(x) + model.norm_epsilon) * p[f"{name}.scale"] + p[f"{name}.bias"]


def _linear(p: dict, name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _feedforward(model: Architecture, p: dict, name: str, x: np.ndarray) -> np.ndarray:
    if model.fused_gate_up:
        both = _linear(p, f"{name}.gate_up", x)
        gate, up = both[: model.ffn], both[model.ffn :]
    else:
        gate, up = _linear(p, f"{name}.gate", x), _linear(p, f"{name}.up", x)
    h = gate / (1 + np.exp(-gate)) * up
    y = _linear(p, f"{name}.down", h)
    return y + (h @ p[f"{name}.adapter_in.weight"]) @ p[f"{name}.adapter_out.weight"] if model.adapter else y


def _seen(model: Architecture, row: dict, i: int) -> list[int]:
    """The tokens that token i sees, document by document."""
    first, last = 0, len(row["attention_mask"])
    if model.documents:
        first = max(j for j in range(i + 1) if row["document_starts"][j])
        last = min((j for j in range(i + 1, last) if row["document_starts"][j]), default=last)
    return [j for j in range(first, i + 1 if model.causal else last) if row["attention_mask"][j] or j == i]


def _attention(model: Architecture, p: dict, name: str, x: list[np.ndarray], row: dict) -> list[np.ndarray]:
    q, k, v = zip(*(_heads(model, p, name, token, position) for position, token in enumerate(x)), strict=True)
    outputs = []
    for i in range(len(x)):
        seen, mixed = _seen(model, row, i), []
        for h in range(model.num_heads):
            shared = h // (model.num_heads // model.num_kv_heads)
            weights = np.array([math.exp(q[i][h] @ k[j][shared] / math.sqrt(model.head_size)) for j in seen])
            mixed.append(sum(weight * v[j][shared] for weight, j in zip(weights / sum(weights), seen, strict=True)))
        outputs.append(_linear(p, f"{name}.output", np.concatenate(mixed)))
    return outputs


def _heads(model: Architecture, p: dict, name: str, x: np.ndarray, position: int) -> tuple[list, list, list]:
    """Query, key and value heads of one token, normed and rotated."""
    if model.fused_qkv:
        heads = np.split(_linear(p, f"{name}.qkv", x), model.num_heads + 2 * model.num_kv_heads)
    else:
        parts = [
            np.split(_linear(p, f"{name}.{part}", x), n)
            for part, n in (("query", model.num_heads), ("key", model.num_kv_heads), ("value", model.num_kv_heads))
        ]
        heads = parts[0] + parts[1] + parts[2]
    q, k, v = heads[: model.num_heads], heads[model.num_heads : -model.num_kv_heads], heads[-model.num_kv_heads :]
    rms = replace(model, norm="rms")
    q = [_rotate(model, _norm(rms, p, f"{name}.query_norm", head), position) for head in q]
    k = [_rotate(model, _norm(rms, p, f"{name}.key_norm", head), position) for head in k]
    return q, k, v


def _rotate(model: Architecture, head: np.ndarray, position: int) -> np.ndarray:
    half, turned = model.head_size // 2, np.empty_like(head)
    for e in range(half):
        angle = position / model.rotary_base ** (2 * e / model.head_size)
        turned[e] = head[e] * math.cos(angle) - head[e + half] * math.sin(angle)
        turned[e + half] = head[e] * math.sin(angle) + head[e + half] * math.cos(angle)
    return turned
