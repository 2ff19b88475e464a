"""Narrow sums of gradients and narrow statistics in a watched torch step of one rank; what is sent is not looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conformance.contract.mesh import Mesh
from conformance.evidence.arithmetic import GRADIENTS, REDUCTION, STATISTICS

torch = pytest.importorskip("torch")
dist = torch.distributed
MESH = Mesh.parse("data=2,tensor=2")


@pytest.fixture(scope="module")
def groups() -> Iterator[Any]:
    """A device mesh of four ranks, of which this process is the first and the others do not exist."""
    from torch.distributed.device_mesh import DeviceMesh
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield DeviceMesh("cpu", torch.arange(4).reshape(2, 2), mesh_dim_names=MESH.axes)
    dist.destroy_process_group()


def bfloat16(g: Any) -> Any:
    return g.to(torch.bfloat16)


def summed(g: Any, groups: Any) -> Any:
    g = g.clone()
    dist.all_reduce(g, group=groups.get_group("data"))
    return g


def reduce_narrow(named: dict[str, Any], groups: Any) -> dict[str, Any]:
    return named | {"down": summed(bfloat16(named["down"]), groups).float()}


def reduce_bucket(named: dict[str, Any], groups: Any) -> dict[str, Any]:
    """All gradients in one flat buffer."""
    flat = summed(torch.cat([bfloat16(g).flatten() for g in named.values()]), groups)
    parts = flat.split([g.numel() for g in named.values()])
    return {name: part.view_as(g).float() for (name, g), part in zip(named.items(), parts, strict=True)}


def reduce_wide(named: dict[str, Any], groups: Any) -> dict[str, Any]:
    return {name: summed(g, groups) for name, g in named.items()}


def operations(
    groups: Any,
    reduce: Callable = reduce_wide,
    kept: Any = torch.float32,
    norm: Callable = lambda x: x,
    slices: int = 2,
) -> set[tuple[str, str, str, tuple[str, ...]]]:
    """(role, tensor, operation, axes) of what is narrow in a step that computes in bfloat16 and uses `up` twice."""
    from conformance.trace.torch_trace import Recorder

    torch.manual_seed(0)
    weights = {"up": torch.randn(4, 8), "down": torch.randn(8, 4)}
    leaves = {name: w.requires_grad_() for name, w in weights.items()}
    with Recorder(MESH, groups) as recorder:
        total = {name: torch.zeros_like(w, dtype=kept) for name, w in weights.items()}
        for _ in range(slices):
            narrow = {name: bfloat16(w) for name, w in leaves.items()}
            h = norm(bfloat16(torch.randn(6, 4)) @ narrow["up"])
            y = summed(h.detach(), groups) @ narrow["down"] @ narrow["up"]
            slopes = torch.autograd.grad((y + h).float().sum(), list(leaves.values()))
            total = {name: total[name] + g.to(kept) for name, g in zip(leaves, slopes, strict=True)}
        made = reduce({name: g.float() for name, g in total.items()}, groups)
        observed = {f"gradients/{name}": g / 12 for name, g in made.items()}
    operations_seen = recorder.arithmetic(observed)
    assert operations_seen is not None
    return {(operation.role, operation.tensor, operation.operation, operation.axes) for operation in operations_seen}


def test_activations_and_parts_of_one_gradient_may_be_narrow(groups: Any) -> None:
    assert operations(groups) == set()


@pytest.mark.parametrize(("reduce", "names"), [(reduce_narrow, {"down"}), (reduce_bucket, {"up", "down"})])
def test_gradients_summed_narrowly_over_devices(groups: Any, reduce: Callable, names: set[str]) -> None:
    seen = operations(groups, reduce, slices=1)
    assert seen == {(REDUCTION, f"gradients/{name}", "all_reduce", ("data",)) for name in names}


def reduce_by_hand(named: dict[str, Any], groups: Any) -> dict[str, Any]:
    """Parts are exchanged, and every rank adds up its own."""
    g = bfloat16(named["down"]).reshape(2, -1)
    parts = torch.empty_like(g)
    dist.all_to_all_single(parts, g, group=groups.get_group("data"))
    return named | {"down": parts.sum(0).float()}


def test_gradients_exchanged_and_added_up_narrowly(groups: Any) -> None:
    assert operations(groups, reduce_by_hand, slices=1) == {(REDUCTION, "gradients/down", "sum", ("data",))}


class Exchanged(torch.autograd.Function):
    """Rows go to other ranks, and so do their gradients."""

    @staticmethod
    def forward(ctx: Any, x: Any, group: Any) -> Any:
        ctx.group = group
        out = torch.empty_like(x)
        dist.all_to_all_single(out, x, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, g: Any) -> tuple[Any, None]:  # type: ignore[override]
        out = torch.empty_like(g)
        dist.all_to_all_single(out, g.contiguous(), group=ctx.group)
        return out, None


def test_a_bias_behind_an_exchange_has_a_narrow_gradient_by_right(groups: Any) -> None:
    from conformance.trace.torch_trace import Recorder

    bias = torch.randn(8, requires_grad=True)
    with Recorder(MESH, groups) as recorder:
        y = Exchanged.apply(bfloat16(torch.randn(4, 8)) + bfloat16(bias), groups.get_group("data"))
        (g,) = torch.autograd.grad((y * y).float().sum(), bias)
    assert recorder.arithmetic({"gradients/bias": g}) == ()


def test_slices_added_up_narrowly(groups: Any) -> None:
    seen = operations(groups, kept=torch.bfloat16)
    assert {(GRADIENTS, f"gradients/{name}", "add", ()) for name in ("up", "down")} <= seen
    assert {role for role, *_ in seen} == {GRADIENTS}


def rms_norm(x: Any) -> Any:
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)


def softmax(x: Any) -> Any:
    powers = (x - x.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


@pytest.mark.parametrize("norm", [rms_norm, softmax, lambda x: x - x.logsumexp(-1, keepdim=True)])
def test_narrow_statistics(groups: Any, norm: Callable) -> None:
    seen = operations(groups, norm=norm)
    assert seen
    assert {role for role, *_ in seen} == {STATISTICS}


@pytest.mark.parametrize("norm", [rms_norm, softmax])
def test_wide_statistics(groups: Any, norm: Callable) -> None:
    assert operations(groups, norm=lambda x: bfloat16(norm(x.float()))) == set()


def test_what_was_watched_can_still_be_resized() -> None:
    """FSDP frees and refills the memory of its parameters in every step."""
    from conformance.trace.torch_computed import Results
    from conformance.trace.torch_dataflow import TorchFlow

    given = torch.empty(6, dtype=torch.float64).fill_(3)
    flow, results = TorchFlow(bits=64), Results()
    made = given * 2
    flow.operation(torch.ops.aten.mul.Tensor, (given, 2), {}, made)
    results.add(torch.ops.aten.mul.Tensor, (given, 2), {}, made)
    for tensor in (given, made):
        tensor.untyped_storage().resize_(0)
