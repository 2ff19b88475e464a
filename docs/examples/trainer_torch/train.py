"""The trainer: `torchrun --nproc-per-node 8 train.py --dp 2 --tp 4 --folder runs/tp4`, or one process, `train.py`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import faults
import torch
import torch.distributed as dist
import torch.nn.functional as F
from model import Config, initialised
from parallelize import parallelize
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

import conformance

ROWS, SEQUENCE, IGNORED = 8, 16, -100


def batches(steps: int, vocabulary: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Global batches: tokens and targets, of which some do not count, unequally many in each row."""
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        tokens = torch.randint(vocabulary, (ROWS, SEQUENCE + 1), generator=generator)
        targets = tokens[:, 1:].clone()
        for row in range(ROWS):
            targets[row, : row + row % 3] = IGNORED
        yield tokens[:, :-1], targets


def clip(model: nn.Module, most: float, fault: str | None) -> None:
    """By the norm over all ranks."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = faults.total_norm(fault, gradients)
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    torch.nn.utils.clip_grads_with_norm_(model.parameters(), most, norm)


def train(args: argparse.Namespace) -> None:
    distributed = args.dp * args.tp > 1
    config, mesh = Config(), None
    model = initialised(config, seed=0).to(getattr(torch, args.dtype))
    if distributed:
        dist.init_process_group("gloo")
        mesh = init_device_mesh("cpu", (args.dp, args.tp), mesh_dim_names=("dp", "tp"))
        faults.in_parameters(args.fault, model, args.tp)
        parallelize(model, mesh, changed=faults.styles(args.fault), policy=faults.policy(args.fault))
        faults.in_modules(args.fault, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-3, betas=(0.9, 0.95))
    data = 0 if mesh is None else mesh["dp"].get_local_rank()

    with conformance.capture(args.folder, model=model, optimizer=optimizer, mesh=mesh, steps=3) as seen:
        for tokens, targets in batches(args.steps, config.vocabulary):
            rows = faults.rows(args.fault, data, args.dp, ROWS)
            valid = faults.valid(args.fault, targets != IGNORED, rows, args.dp)
            total = torch.zeros(())
            for part in rows.chunk(args.accumulate):
                logits = model(tokens[part])
                logits, wanted = logits.flatten(0, 1), targets[part].flatten()
                loss = F.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum") / valid
                (loss * args.dp).backward()  # FSDP2 takes the mean over the data ranks
                total = total + loss.detach()
            faults.in_gradients(args.fault, model, mesh)
            if mesh is not None:
                dist.all_reduce(total, group=mesh["dp"].get_group())
            seen.loss(total)
            clip(model, args.clip, args.fault)
            optimizer.step()
            optimizer.zero_grad()
    if distributed:
        dist.destroy_process_group()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dp", type=int, default=1)
    parser.add_argument("--tp", type=int, default=1)
    parser.add_argument("--accumulate", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--clip", type=float, default=0.5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--folder", default=None)
    parser.add_argument("--fault", default=None, choices=faults.FAULTS)
    return parser.parse_args()


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(arguments())
