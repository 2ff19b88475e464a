"""What a capture in torch writes of a model with something around it: the same names as of the model by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

import conformance
from conformance.capture.records import read_ranks


class Net(nn.Module):
    def __init__(self, wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([wrap(nn.Linear(5, 7)), wrap(nn.Linear(7, 3))])

    def forward(self, tokens: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        first, second = self.layers
        made: torch.Tensor = second(torch.tanh(first(tokens))) * scale
        return made


class HandsOn(nn.Module):
    """As DeepSpeed's engine and Megatron's Float16Module: what it is given goes to `module`."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor, cast: bool = False, **kwargs: object) -> torch.Tensor:
        made: torch.Tensor = self.module(*inputs, **kwargs)
        return made


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of one."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _compiled(model: nn.Module) -> nn.Module:
    made: nn.Module = torch.compile(model, backend="eager")  # type: ignore[assignment]
    return made


WRAPPED: dict[str, Callable[[], nn.Module]] = {
    "ddp": lambda: DistributedDataParallel(Net()),
    "compiled": lambda: _compiled(Net()),
    "compiled ddp": lambda: _compiled(DistributedDataParallel(Net())),
    "ddp of compiled": lambda: DistributedDataParallel(_compiled(Net())),
    "checkpointed": lambda: checkpoint_wrapper(Net()),
    "checkpointed layers": lambda: DistributedDataParallel(Net(checkpoint_wrapper)),
    "two that hand on": lambda: HandsOn(HandsOn(Net())),
    "averaged": lambda: AveragedModel(Net()),
}


def _first_step(folder: Path, model: nn.Module, modules: tuple[str, ...] | None = None) -> set[str]:
    """What is written of a step, under which names."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    with conformance.capture(folder, model=model, optimizer=optimizer, steps=1, modules=modules) as seen:
        loss = model(torch.ones(2, 5)).square().mean()
        loss.backward()
        seen.loss(loss)
        optimizer.step()
    [rank] = read_ranks(folder)
    return set(rank.moments[1].tensors)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("modules", [None, ("layers.*",)], ids=["children", "patterns"])
@pytest.mark.parametrize("kind", WRAPPED)
def test_a_wrapper_is_seen_through(kind: str, modules: tuple[str, ...] | None, tmp_path: Path) -> None:
    plain = _first_step(tmp_path / "plain", Net(), modules)
    assert {"batch/tokens", "activations/layers.1", "gradients/layers.0.weight"} <= plain
    assert _first_step(tmp_path / "wrapped", WRAPPED[kind](), modules) == plain
