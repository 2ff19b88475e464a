"""What of torch's private interfaces the measurement at scale needs is there, and its absence is said by name."""

import pytest

pytest.importorskip("torch")

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from conformance.trace import torch_private
from conformance.trace.torch_storages import LiveStorages


def test_all_private_interfaces_are_there():
    assert torch_private.missing() == ()


def test_a_missing_one_is_named(monkeypatch):
    gone = ("torch.distributed.tensor.placement_types", "no_such_function", "nothing")
    monkeypatch.setattr(torch_private, "PRIVATE", (*torch_private.PRIVATE, gone))
    [sentence] = torch_private.missing()
    assert "torch.distributed.tensor.placement_types.no_such_function" in sentence
    assert torch.__version__ in sentence


def test_storages_count_while_they_live():
    """A view shares its storage; what is emptied, filled and dropped counts as it lies."""
    memory = LiveStorages()
    with FakeTensorMode(), memory.watching_sizes():
        x = torch.empty(1000)
        memory.add([x, x.view(10, 100)])
        assert memory.bytes == 4000
        x.untyped_storage().resize_(0)
        assert memory.bytes == 0
        x.untyped_storage().resize_(8000)
        assert (memory.bytes, memory.peak) == (8000, 8000)
        y = torch.empty(10, dtype=torch.float64)
        memory.add([y])
        del x
        assert memory.bytes == 80
    assert memory.peak == 8080
