"""All process groups of a rank wait for messages in one thread."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from conformance.workers import torch_gloo

GROUPS = 6
_POOL = 2  # threads of a group that carry out its collectives


def test_torch_has_what_sharing_takes() -> None:
    assert torch_gloo.missing() == ()


@pytest.mark.parametrize("ranks", [1, 3])
def test_one_thread_waits_for_all_groups_and_their_sums_are_right(tmp_path: Path, ranks: int) -> None:
    processes.spawn(_rank, (ranks, str(tmp_path / "store")), nprocs=ranks)  # type: ignore[no-untyped-call]


def _rank(rank: int, ranks: int, store: str) -> None:
    torch_gloo.share_device()
    everybody, timeout = dist.FileStore(store, ranks), timedelta(seconds=60)  # type: ignore[attr-defined, unused-ignore]
    dist.init_process_group("gloo", store=everybody, rank=rank, world_size=ranks, timeout=timeout)
    before = _threads()
    groups = [dist.new_group(list(range(ranks)), timeout=timedelta(seconds=30 + i)) for i in range(GROUPS)]
    for number, group in enumerate(groups):
        values = torch.arange(3.0) + rank
        dist.all_reduce(values, group=group)
        assert values.tolist() == [ranks * k + ranks * (ranks - 1) / 2 for k in range(3)]
        options = group._get_backend(torch.device("cpu")).options
        assert options._timeout == timedelta(seconds=30 + number)
    assert _threads() - before == GROUPS * _POOL
    dist.destroy_process_group()


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_a_torch_without_those_names_keeps_its_own_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_gloo, "PRIVATE", (*torch_gloo.PRIVATE, "gone"))
    before = dist.ProcessGroupGloo.__init__
    torch_gloo.share_device()
    assert torch_gloo.missing() == ("gone",)
    assert dist.ProcessGroupGloo.__init__ is before
