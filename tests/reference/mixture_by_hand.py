"""A mixture of experts token by token in plain numpy: slow, without a batched product, easy to read."""

from __future__ import annotations

import numpy as np

from reference.architecture import Architecture, places


def mixture(model: Architecture, p: dict, batch: dict) -> dict[str, np.ndarray]:
    """Of a slice: logits, choices and outputs as they are observed, load [E], and the terms of the loss."""
    x, real = batch["inputs"], batch["attention_mask"] > 0
    logits = x @ p["moe.router.weight"]
    scores = scores_of(model, logits)
    ranked = scores + p.get("moe.router.bias", 0)
    chosen = np.argsort(-ranked, axis=-1, kind="stable")[..., : model.top_k]
    asked = np.where(real[..., None], chosen, -1)
    queues = asked if model.capacity_scope == "row" else asked.reshape(1, -1, model.top_k)
    routed = np.stack([admitted(queue, places(model, len(queue)), model.experts) for queue in queues])
    routed = routed.reshape(asked.shape)
    y = np.zeros_like(x)
    for row, token in np.ndindex(real.shape):
        hidden, sum_of_gates = x[row, token], scores[row, token, chosen[row, token]].sum()
        for e in routed[row, token][routed[row, token] >= 0]:
            gate = scores[row, token, e] / (sum_of_gates if model.normalized_gates else 1)
            y[row, token] += one_expert(p, e, gate * hidden) if model.gates_before else gate * one_expert(p, e, hidden)
        y[row, token] += one_expert(p, None, hidden) if model.shared_ffn else 0
    counts = (asked[..., None] == np.arange(model.experts)).sum(axis=2)
    choice = {"scores/moe": np.take_along_axis(ranked, chosen, -1) * real[..., None], "choices/moe": asked}
    values = {"activations/moe.router": logits, "routing/moe": routed, "outputs/y": y, "load": counts.sum(axis=(0, 1))}
    return values | choice | losses(model, logits, counts, real)


def scores_of(model: Architecture, logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits)
    return powers / powers.sum(axis=-1, keepdims=True) if model.scores == "softmax" else powers / (1 + powers)


def losses(model: Architecture, logits: np.ndarray, counts: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """The terms of one mixture on one slice, without coefficients; `counts` is [B, S, E], of choices."""
    lse = np.log(np.exp(logits).sum(axis=-1))[real]
    return {"balance_loss": balance(model, counts, scores_of(model, logits), real), "router_z_loss": np.mean(lse**2)}


def admitted(asked: np.ndarray, limit: int | None, experts: int) -> np.ndarray:
    """Of a row: first choices by position, then second ones, and so on, as long as their expert has places."""
    places, taken = np.full_like(asked, -1), np.zeros(experts, dtype=int)
    for k in range(asked.shape[1]):
        for token, e in enumerate(asked[:, k]):
            if e >= 0 and (limit is None or taken[e] < limit):
                places[token, k], taken[e] = e, taken[e] + 1
    return places


def one_expert(p: dict, e: int | None, x: np.ndarray) -> np.ndarray:
    """One expert, or the shared one."""

    def linear(part: str, x: np.ndarray) -> np.ndarray:
        name, at = ("moe.shared", ()) if e is None else ("moe.experts", e)
        return x @ p[f"{name}.{part}.weight"][at] + (p[f"{name}.{part}.bias"][at] if f"{name}.{part}.bias" in p else 0)

    up = linear("up", x)
    if "moe.experts.gate.weight" in p:
        gate = linear("gate", x)
        return linear("down", gate / (1 + np.exp(-gate)) * up)
    return linear("down", up / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3))))


def balance(model: Architecture, counts: np.ndarray, scores: np.ndarray, real: np.ndarray) -> float:
    """Of all rows together, or the mean over rows with a real token."""
    shares = scores / scores.sum(axis=-1, keepdims=True)
    scopes = [np.s_[:]] if model.balance_scope == "batch" else [np.s_[row : row + 1] for row in range(len(real))]
    terms = [
        model.experts * np.sum(counts[at][real[at]].mean(axis=0) / model.top_k * shares[at][real[at]].mean(axis=0))
        for at in scopes
        if real[at].any()
    ]
    return sum(terms) / len(terms)
