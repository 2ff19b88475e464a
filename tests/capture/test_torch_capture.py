"""What a capture in torch writes down of a trainer in one process, and that it leaves the trainer as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import conformance
from conformance.capture.files import read_tensors
from conformance.capture.orders import Orders
from conformance.capture.records import RankRecord, read_ranks


class Net(nn.Module):
    def __init__(self, recompute: bool = False, narrow: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(5, 7), nn.Linear(7, 3)])
        self.recompute, self.narrow = recompute, narrow

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second = self.layers
        h = checkpoint(first, x, use_reentrant=False) if self.recompute else first(x)
        y = second(torch.tanh(h))
        return y.float().to(y.dtype) if self.narrow else y


def _net(**how: bool) -> Net:
    torch.manual_seed(0)
    return Net(**how)


def _train(folder: Path | None, net: Net, *, steps: int = 2, slices: int = 2, fails: bool = False) -> list[dict]:
    """Clipped gradient descent; what is true of each step, by its own arithmetic."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.5)
    truths, x = [], torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
    with conformance.capture(folder, model=net, optimizer=optimizer, steps=2) as seen:
        for _ in range(steps):
            total = torch.zeros(())
            for part in x.to(next(net.parameters()).dtype).chunk(slices):
                loss = net(part).square().sum() / 12
                loss.backward()
                total = total + loss.detach()
            truth = {name: p.grad.clone() for name, p in net.named_parameters()}
            norm = nn.utils.clip_grad_norm_(net.parameters(), 0.05)
            if fails and truths:
                raise RuntimeError("out of luck")
            seen.loss(total)
            truths.append({"gradients": truth, "norm": norm, "loss": total})
            truths[-1]["clipped"] = {name: p.grad.clone() for name, p in net.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()
            truths[-1]["parameters"] = {name: p.detach().clone() for name, p in net.named_parameters()}
    return truths


def _read(folder: Path) -> tuple[RankRecord, list[dict[str, np.ndarray]]]:
    [rank] = read_ranks(folder)
    return rank, [read_tensors(folder / moment.file) for moment in rank.moments]


def test_every_part_of_a_step_is_written_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    truths = _train(tmp_path, _net())
    rank, (_, *steps) = _read(tmp_path)
    assert [moment.moment for moment in rank.moments] == ["start", "step 1", "step 2"]
    for truth, step in zip(truths, steps, strict=True):
        for kind in ("gradients", "clipped", "parameters"):
            for name, value in truth[kind].items():
                assert np.array_equal(step[f"{kind}/{name}"], value.numpy()), (kind, name)
        assert step["metrics/grad_norm"] == truth["norm"].numpy()
        assert step["loss"] == truth["loss"].numpy()
        assert not np.array_equal(step["gradients/layers.0.weight"], step["clipped/layers.0.weight"])
        assert {"optimizer/momentum_buffer/layers.1.bias", "activations/layers.1", "outputs/model#1"} <= step.keys()
        assert step["batch/x"].shape == (2, 5)  # one of two slices; the other is batch/x#1
        assert not np.array_equal(step["batch/x"], step["batch/x#1"])
    assert rank.finished
    assert rank.recipe == {"optimizer": "sgd", "learning_rate": 0.1, "clip_norm": 0.05, "accumulation": 2}
    assert "Captured 2 steps" in capsys.readouterr().out


def test_it_lets_go_of_the_trainer_after_its_steps_and_changes_nothing_in_it(tmp_path: Path) -> None:
    scale, net, plain = nn.utils.clip_grad._clip_grads_with_norm_, _net(), _net()
    captured, alone = _train(tmp_path, net, steps=4), _train(None, plain, steps=4)
    assert len(read_ranks(tmp_path)[0].moments) == 3
    for mine, other in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert [float(step["loss"]) for step in captured] == [float(step["loss"]) for step in alone]
    assert nn.utils.clip_grad._clip_grads_with_norm_ is scale
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("how", ["no folder", "environment"])
def test_when_it_is_off_nothing_is_hooked_and_nothing_written(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, folder = _net(), None
    if how == "environment":
        monkeypatch.setenv("SHARDPROOF_CAPTURE", "off")
        folder = tmp_path / "runs"
    with conformance.capture(folder, model=net, optimizer=torch.optim.SGD(net.parameters())) as seen:
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
        seen.loss(torch.zeros(()))
    assert not list(tmp_path.iterdir())


def test_bfloat16_is_written_without_loss(tmp_path: Path) -> None:
    net = _net().to(torch.bfloat16)
    _train(tmp_path, net)
    rank, moments = _read(tmp_path)
    last = moments[-1]["parameters/layers.0.weight"]
    bits = net.layers[0].weight.detach().view(torch.int16).numpy()
    assert (rank.dtype, str(last.dtype)) == ("bfloat16", "bfloat16")
    assert np.array_equal(last.view(np.int16), bits)


def test_a_module_that_is_recomputed_is_seen_once(tmp_path: Path) -> None:
    _train(tmp_path / "plain", _net())
    _train(tmp_path / "again", _net(recompute=True))
    plain, again = (_read(tmp_path / name)[0].moments[1].tensors for name in ("plain", "again"))
    assert plain.keys() == again.keys()


def test_a_trainer_that_fails_leaves_the_steps_that_were_over(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of luck"):
        _train(tmp_path, _net(), fails=True)
    rank, moments = _read(tmp_path)
    assert (rank.finished, len(moments)) == (False, 2)
    assert not list(tmp_path.glob("*.draft"))


def _ordered(folder: Path, monkeypatch: pytest.MonkeyPatch, orders: Orders, net: Net) -> dict[str, np.ndarray]:
    for name, value in orders.environment().items():
        monkeypatch.setenv(name, value)
    _train(folder, net)
    return _read(folder)[1][0]


def test_a_member_is_moved_by_one_unit_in_the_last_place_each_in_its_own_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = _net().layers[0].weight.detach().numpy()
    starts = [_ordered(tmp_path / str(n), monkeypatch, Orders(member=n), _net()) for n in (1, 2, 1)]
    moved = [start["parameters/layers.0.weight"] for start in starts]
    ulps = [np.abs(value - given) / np.spacing(np.abs(given)) for value in moved]
    assert all(0 < value.max() <= 2 for value in ulps)  # eps * |x| is one or two spacings of x
    assert not np.array_equal(moved[0], moved[1])
    assert np.array_equal(moved[0], moved[2])


def test_in_float64_the_trainers_own_parameters_are_wide_and_what_is_narrow_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = Orders(dtype="float64")
    assert _ordered(tmp_path / "wide", monkeypatch, orders, _net())["parameters/layers.0.weight"].dtype == np.float64
    rank, moments = _read(tmp_path / "wide")
    assert (rank.dtype, rank.given_dtype, rank.lower) == ("float64", "float32", [])
    assert not np.array_equal(moments[0]["parameters/layers.0.weight"], moments[1]["parameters/layers.0.weight"])
    _ordered(tmp_path / "part", monkeypatch, orders, _net(narrow=True))
    [lower] = [what for what in _read(tmp_path / "part")[0].lower if what["place"]][:1]
    assert lower["dtype"] == "float32"
    assert lower["place"].startswith("test_torch_capture.py:")
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"steps": 0}, "A capture of 0 steps shows nothing"),
        ({"optimizer": None}, "needs the optimizer of the model"),
        ({"mesh": "data=2"}, "has 2 ranks, but 1 processes train"),
        ({"placements": {"*": {"tp": "X"}}}, "Unknown placement 'X'"),
    ],
)
def test_what_cannot_be_captured_is_one_sentence(said: dict, sentence: str, tmp_path: Path) -> None:
    net = _net()
    given = {"optimizer": torch.optim.SGD(net.parameters())} | said
    with pytest.raises(ValueError, match=sentence):
        conformance.capture(tmp_path, model=net, **given)


def test_megatrons_attributes_and_patterns_say_where_a_parameter_lies(tmp_path: Path) -> None:
    net = _net()
    net.layers[0].weight.tensor_model_parallel, net.layers[0].weight.partition_dim = True, 0
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    said = {"layers.1.*": {"dp": "S(1)"}, "modules/layers.0": {"tp": "S(1)"}}
    with conformance.capture(tmp_path, model=net, optimizer=optimizer, mesh="dp=1,tp=1", placements=said):
        net(torch.ones(2, 5)).sum().backward()
        optimizer.step()
    tensors = _read(tmp_path)[0].moments[1].tensors
    assert tensors["gradients/layers.0.weight"].placements == {"tp": "S(0)"}
    assert tensors["parameters/layers.1.bias"].placements == {"dp": "S(1)"}
    assert tensors["activations/layers.0"].placements == {"tp": "S(1)"}
    assert tensors["activations/layers.1"].placements is None


def test_two_losses_in_one_step_are_refused(tmp_path: Path) -> None:
    net = _net()
    with conformance.capture(tmp_path, model=net, optimizer=torch.optim.SGD(net.parameters())) as seen:
        seen.loss(1.0)
        with pytest.raises(ValueError, match="Step 1 has two losses"):
            seen.loss(1.0)


def test_importing_conformance_brings_no_framework() -> None:
    import subprocess
    import sys

    words = "import sys, conformance; print([n for n in ('torch', 'jax', 'pydantic') if n in sys.modules])"
    assert subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout == "[]\n"
