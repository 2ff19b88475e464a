"""What a capture in torch writes of gradients that an optimizer uses in the backward pass, and of sparse ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

import conformance
from conformance.capture.files import read_tensors
from conformance.capture.records import read_ranks


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = nn.Embedding(7, 4, sparse=True), nn.Linear(4, 2)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.out(torch.tanh(self.embed(tokens)))


def _truth() -> dict[str, np.ndarray]:
    """The gradients of the first step."""
    model = Words()
    _loss(model).backward()
    return {f"gradients/{name}": _array(p) for name, p in model.named_parameters()}


def _array(parameter: nn.Parameter) -> np.ndarray:
    assert parameter.grad is not None
    array: np.ndarray = parameter.grad.to_dense().numpy()
    return array


def _loss(model: nn.Module) -> torch.Tensor:
    loss: torch.Tensor = model(torch.tensor([[1, 1, 2], [3, 1, 5]])).square().mean()
    return loss


def _first_step(folder: Path) -> dict[str, np.ndarray]:
    [rank] = read_ranks(folder)
    tensors = read_tensors(folder / rank.moments[1].file)
    return {name: value for name, value in tensors.items() if name.startswith("gradients/")}


def test_gradients_are_written_when_their_own_optimizer_steps(tmp_path: Path) -> None:
    model = Words()
    by_parameter = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def update(parameter: nn.Parameter) -> None:
        by_parameter[parameter].step()
        by_parameter[parameter].zero_grad()

    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(update)
    with conformance.capture(tmp_path, model=model, optimizer=[*by_parameter.values()], steps=1) as seen:
        loss = _loss(model)
        loss.backward()
        seen.loss(loss)
    _require_same(_first_step(tmp_path))


def test_sparse_gradients_are_written_dense(tmp_path: Path) -> None:
    model = Words()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with conformance.capture(tmp_path, model=model, optimizer=optimizer, steps=1) as seen:
        loss = _loss(model)
        loss.backward()
        seen.loss(loss)
        optimizer.step()
    _require_same(_first_step(tmp_path))


def _require_same(written: dict[str, np.ndarray]) -> None:
    truth = _truth()
    assert written.keys() == truth.keys()
    assert all(np.array_equal(written[name], truth[name]) for name in truth)
