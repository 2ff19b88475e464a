"""Trainers and modules of many kinds in torch, right ones and broken ones; run as a script, it prints verdicts."""

import json
import sys
import time
from functools import partial

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.nn.functional import all_reduce
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.utils import clip_grad_norm_

import conformance
from conformance import Declarations, Sharded, Traffic

rng = np.random.default_rng(0)
torch.manual_seed(0)
ROWS, FEATURES, HIDDEN, WORDS = 12, 6, 10, 7
BATCH = {"x": rng.normal(size=(ROWS, FEATURES)), "target": rng.normal(size=(ROWS, FEATURES))}
TOKENS = {"tokens": rng.integers(0, WORDS, size=(ROWS, 5)), "labels": rng.integers(0, WORDS, size=(ROWS, 5))}
ADAMW = partial(torch.optim.AdamW, lr=0.05, weight_decay=0.1, eps=1e-3)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(FEATURES, HIDDEN), nn.Linear(HIDDEN, FEATURES)

    def forward(self, x):
        return self.down(torch.tanh(self.up(x)))


class Normed(nn.Module):
    """Running statistics are buffers; dropout does nothing in eval mode."""

    def __init__(self):
        super().__init__()
        self.up, self.norm = nn.Linear(FEATURES, HIDDEN), nn.BatchNorm1d(HIDDEN)
        self.down, self.dropout = nn.Linear(HIDDEN, FEATURES, bias=False), nn.Dropout(0.5)

    def forward(self, x):
        return self.down(self.dropout(torch.tanh(self.norm(self.up(x)))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(WORDS, FEATURES), nn.Linear(FEATURES, WORDS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        return self.head(torch.tanh(self.embed(tokens)))


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(FEATURES) / 2)
        self.frozen = nn.Parameter(torch.linspace(-1, 1, FEATURES), requires_grad=False)

    def forward(self, x):
        return torch.tanh(x * self.scale + self.frozen)


def dropping():
    return Normed().train()


def still():
    made = Normed()
    made.dropout.eval()
    return made


def loss_of(model, batch):
    y = model(batch["x"])
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


def loss_of_words(model, batch):
    y = model(batch["tokens"])
    return nn.functional.cross_entropy(y.flatten(0, 1), batch["labels"].flatten()), {"y": y}


def predictions(model, batch):
    return {"y": model(batch["x"])}


def adamw(model):
    return ADAMW(model.parameters())


def in_groups(model):
    """Weights decay, all else does not."""
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    return torch.optim.AdamW([{"params": weights}, {"params": others, "weight_decay": 0.0}], lr=0.05, eps=1e-3,
                             weight_decay=0.5)  # fmt: skip


def rows(batch, mesh):
    """Those of this rank of a data mesh."""
    return {key: value.chunk(mesh.size())[mesh.get_local_rank()] for key, value in batch.items()}


def whole(y, loss, mesh):
    """Outputs and loss of all ranks of a data mesh that has one dim."""
    y = DTensor.from_local(y.detach(), mesh, [Shard(0)], run_check=False)
    loss = DTensor.from_local(loss.detach() / mesh.size(), mesh, [Partial()], run_check=False).full_tensor()
    return {"loss": loss, "outputs/y": y}


PLAN = {"up": ColwiseParallel(use_local_output=False), "down": RowwiseParallel()}  # 10 features over 4 ranks


def tensor_parallel(model, batch, mesh):
    parallelize_module(model, mesh["tensor"], PLAN)
    loss, outputs = loss_of(model, batch)
    loss.backward()
    return loss, outputs


def tensor_parallel_of_half(model, batch, mesh):
    """A planted fault: the second layer leaves out the last rank."""
    with torch.no_grad():
        model.down.weight[:, -1] = 0
    return tensor_parallel(model, batch, mesh)


def tensor_parallel_forward(model, batch, mesh):
    parallelize_module(model, mesh["tensor"], PLAN)
    return {"outputs/y": model(batch["x"]).detach()}


def forward_of_a_rank(model, batch, mesh):
    parallelize_module(model, mesh["tensor"], PLAN | {"down": RowwiseParallel(output_layouts=Shard(0))})
    y = model(batch["x"]).detach()
    return {"outputs/y": Sharded(local=y.flip(0), placements={"tensor": "S(0)"}, shape=(ROWS, FEATURES))}


class Fsdp:
    """FSDP2 over data; FSDP2 itself takes the mean over ranks."""

    def __init__(self, model, mesh, dtype):
        self.mesh, self.model = mesh["data"], model
        reduce = None if dtype == torch.float64 else torch.float32
        fully_shard(model, mesh=self.mesh, mp_policy=MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=reduce))
        self.optimizer = self.made()

    def made(self):
        return adamw(self.model)

    def step(self, batch):
        seen = self.differentiated(rows(batch, self.mesh))
        seen["metrics/grad_norm"] = self.clipped()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return seen

    def differentiated(self, batch):
        loss, outputs = self.loss(batch)
        loss.backward()
        return whole(outputs["y"], loss, self.mesh)

    def loss(self, batch):
        return loss_of(self.model, batch)

    def clipped(self):
        return clip_grad_norm_(self.model.parameters(), 0.25).full_tensor()


class Accumulating(Fsdp):
    slices = 3

    def differentiated(self, batch):
        parts = []
        for n in range(self.slices):
            part = {key: value.chunk(self.slices)[n] for key, value in batch.items()}
            loss, outputs = self.loss(part)
            self.scaled(loss).backward()
            parts.append((loss.detach(), outputs["y"]))
        losses, ys = zip(*parts, strict=True)
        return whole(torch.cat(ys), sum(losses) / self.slices, self.mesh)

    def scaled(self, loss):
        return loss / self.slices


class AccumulatesSums(Accumulating):
    """A planted fault: the loss of a slice is not divided by their number."""

    def scaled(self, loss):
        return loss


class ClipsUnseen(Fsdp):
    """Clips by arithmetic of its own."""

    def clipped(self):
        norm = self.norm([p.grad for p in self.model.parameters()])
        for p in self.model.parameters():
            p.grad.to_local().mul_((0.25 / (norm + 1e-6)).clamp(max=1))
        return norm

    def norm(self, gradients):
        return sum((g**2).sum().full_tensor() for g in gradients).sqrt()


class ClipsItself(ClipsUnseen):
    def step(self, batch):
        seen = super().step(batch)
        return seen | {"gradients": self.before}

    def norm(self, gradients):
        self.before = {name: p.grad.clone() for name, p in self.model.named_parameters()}
        return super().norm(gradients)


class OwnNorm(ClipsItself):
    """A planted fault: each rank clips by the norm of its own shards."""

    def norm(self, gradients):
        super().norm(gradients)
        return sum((g.to_local() ** 2).sum() for g in gradients).sqrt()


class KeepsGradients(Fsdp):
    """A planted fault: gradients are never set to zero."""

    def step(self, batch):
        seen = self.differentiated(rows(batch, self.mesh))
        self.optimizer.step()
        return seen


class Unclipped(Fsdp):
    def step(self, batch):
        seen = self.differentiated(rows(batch, self.mesh))
        self.optimizer.step()
        self.optimizer.zero_grad()
        return seen


class Grouped(Unclipped):
    def made(self):
        return in_groups(self.model)


class OneGroup(Unclipped):
    """A planted fault: biases decay too."""

    def made(self):
        return torch.optim.AdamW(self.model.parameters(), lr=0.05, eps=1e-3, weight_decay=0.5)


class Early(Unclipped):
    """A planted fault: the optimizer is made before the model is divided."""

    def __init__(self, model, mesh, dtype):
        early = adamw(model)
        super().__init__(model, mesh, dtype)
        self.optimizer = early


class Averaging(Unclipped):
    def __init__(self, model, mesh, dtype):
        super().__init__(model, mesh, dtype)
        self.ema = {name: p.detach().clone() for name, p in model.named_parameters()}

    def step(self, batch):
        seen = super().step(batch)
        self.follow()
        return seen

    def follow(self):
        for name, p in self.model.named_parameters():
            self.ema[name].mul_(0.75).add_(p.detach(), alpha=0.25)


class AveragingBefore(Averaging):
    """A planted fault: the average follows the parameters before they are updated."""

    def step(self, batch):
        self.follow()
        return super(Averaging, self).step(batch)


class Words(Unclipped):
    def loss(self, batch):
        return loss_of_words(self.model, batch)


class Untied(Words):
    """A planted fault: dividing the model has made two weights of one."""

    def __init__(self, model, mesh, dtype):
        model.head.weight = nn.Parameter(model.embed.weight.detach().clone())
        super().__init__(model, mesh, dtype)


class Replicated:
    """Every rank has the module; gradients are averaged over data, and a step of SGD is taken."""

    def __init__(self, model, mesh):
        self.mesh, self.model = mesh["data"], model
        self.optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.5)

    def step(self, batch):
        loss, outputs = loss_of(self.model, rows(batch, self.mesh))
        loss.backward()
        for p in self.model.parameters():
            if p.grad is not None:
                dist.all_reduce(p.grad, group=self.mesh.get_group())
                p.grad /= self.mesh.size()
        gradients = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        self.optimizer.step()
        self.optimizer.zero_grad()
        return whole(outputs["y"], loss, self.mesh) | {"gradients": gradients}


class Thaws(Replicated):
    """A planted fault: what is frozen is trained as well."""

    def __init__(self, model, mesh):
        super().__init__(model.requires_grad_(), mesh)


class Synchronized(nn.BatchNorm1d):
    """Statistics of the rows of all ranks; the running variance is that of a sample."""

    def forward(self, x):
        size = dist.get_world_size()
        mean = all_reduce(x.mean(0)) / size
        var = all_reduce(((x - mean) ** 2).mean(0)) / size
        rows = len(x) * size
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(var * rows / (rows - 1), self.momentum)
            self.num_batches_tracked += 1
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight + self.bias


class SyncedStatistics(Replicated):
    def __init__(self, model, mesh):
        super().__init__(model, mesh)
        model.norm.__class__ = Synchronized


class Uncounted(SyncedStatistics):
    """A planted fault: the running statistics of a step are thrown away."""

    def step(self, batch):
        before = {name: value.clone() for name, value in self.model.named_buffers()}
        seen = super().step(batch)
        for name, value in self.model.named_buffers():
            value.copy_(before[name])
        return seen


def sgd(model):
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.5)


TREE = {
    "layers": [
        {"w": rng.normal(size=(FEATURES, HIDDEN)), "b": rng.normal(size=HIDDEN)},
        {"w": rng.normal(size=(HIDDEN, FEATURES)), "b": rng.normal(size=FEATURES)},
    ],
    "scale": (rng.normal(size=FEATURES),),
}


def tree_loss(tree, batch):
    x = batch["x"]
    for layer in tree["layers"]:
        x = torch.tanh(x @ layer["w"] + layer["b"])
    y = x * tree["scale"][0]
    return ((y - batch["target"]) ** 2).mean(), {"y": y}


def tree_step(tree, batch, mesh):
    """DTensors over data: the batch is divided, parameters are not."""
    whole_mesh = mesh["data"]
    tensors = [tree["layers"][0]["w"], tree["layers"][0]["b"], tree["layers"][1]["w"], tree["layers"][1]["b"],
               tree["scale"][0]]  # fmt: skip
    placed = [distribute_tensor(t.detach(), whole_mesh, [Replicate()]).requires_grad_() for t in tensors]
    made = {"layers": [{"w": placed[0], "b": placed[1]}, {"w": placed[2], "b": placed[3]}], "scale": (placed[4],)}
    divided = {key: distribute_tensor(value, whole_mesh, [Shard(0)]) for key, value in batch.items()}
    loss, outputs = tree_loss(made, divided)
    loss.backward()
    gradients = {"layers": [{"w": placed[0].grad, "b": placed[1].grad}, {"w": placed[2].grad, "b": placed[3].grad}],
                 "scale": (placed[4].grad,)}  # fmt: skip
    return {"loss": loss.detach(), "outputs": {"y": outputs["y"].detach()}, "gradients": gradients}


def crossed_tree_step(tree, batch, mesh):
    """A planted fault: the gradients of the two biases... are scaled by the number of ranks."""
    seen = tree_step(tree, batch, mesh)
    seen["gradients"]["layers"][1]["b"] = seen["gradients"]["layers"][1]["b"] * mesh.size()
    return seen


def attention(parameters, batch):
    weights = torch.softmax(batch["q"] @ batch["k"].mT, -1)
    return {"out": weights @ batch["v"]}


def attention_of_rows(parameters, batch, mesh):
    rank, size = mesh.get_local_rank("sequence"), mesh.size()
    out = attention(parameters, batch | {"q": batch["q"].chunk(size, -2)[rank]})["out"]
    return {"outputs/out": Sharded(local=out, placements={"sequence": "S(1)"}, shape=tuple(batch["v"].shape))}


def attention_of_blocks(parameters, batch, mesh):
    """A planted fault: a rank sees its own block of keys alone."""
    rank, size = mesh.get_local_rank("sequence"), mesh.size()
    own = {key: value.chunk(size, -2)[rank] for key, value in batch.items()}
    out = attention(parameters, own)["out"]
    return {"outputs/out": Sharded(local=out, placements={"sequence": "S(1)"}, shape=tuple(batch["v"].shape))}


ATTENTION = {key: rng.normal(size=(2, 10, 4)) for key in ("q", "k", "v")}


class Alone:
    """The trainer itself on one device: what both sides are asked for."""

    def __init__(self, model, mesh):
        self.model, self.optimizer = model, sgd(model)

    def step(self, batch):
        loss, outputs = loss_of(self.model, batch)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in self.model.named_parameters() if p.grad is not None}
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss, "outputs": outputs, "gradients": gradients}


class Column(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return x

    @staticmethod
    def backward(ctx, g):
        g = g.clone()
        dist.all_reduce(g, group=ctx.group)
        return g, None


class Row(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):
        x = x.clone()
        dist.all_reduce(x, group=group)
        return x

    @staticmethod
    def backward(ctx, g):
        return g, None


class Megatron:
    """Local shards with the attributes that Megatron's layers put on theirs."""

    tensor_model_parallel = True

    def __init__(self, model, mesh, dtype):
        self.dtype = dtype
        self.group, rank, size = mesh.get_group("tensor"), mesh.get_local_rank("tensor"), mesh.size()
        for layer, name, dim in ((model.up, "weight", 0), (model.up, "bias", 0), (model.down, "weight", 1)):
            local = nn.Parameter(getattr(layer, name).detach().chunk(size, dim)[rank].clone())
            if self.tensor_model_parallel:
                local.tensor_model_parallel, local.partition_dim = True, dim
            setattr(layer, name, local)
        self.model = model
        self.optimizer = adamw(model)

    def step(self, batch):
        p = {name: value.to(self.dtype) for name, value in self.model.named_parameters()}
        hidden = torch.tanh(Column.apply(batch["x"], self.group) @ p["up.weight"].mT + p["up.bias"])
        y = Row.apply(hidden @ p["down.weight"].mT, self.group) + p["down.bias"]
        loss = ((y - batch["target"]) ** 2).mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": loss.detach(), "outputs/y": y.detach()}


class Silent(Megatron):
    """Nothing says how its shards lie."""

    tensor_model_parallel = False


LAYOUT = {"up.weight": {"tensor": "S(0)"}, "up.bias": {"tensor": "S(0)"}, "down.weight": {"tensor": "S(1)"}}


def reduced(mesh, dtype):
    """One sum of the outputs forward; none backward, since the inputs have no gradient."""
    size = 8 if dtype == "float64" else 4
    sent = Traffic(kind="all_reduce", axes=("tensor",), phase="forward", calls=1, bytes=ROWS * FEATURES * size)
    return Declarations(traffic=(sent,), layout=LAYOUT)


def nothing(mesh, dtype):
    return Declarations(traffic=())


def sleeping(model, batch, mesh):
    time.sleep(600)


def in_closure():
    return nn.Sequential(nn.Linear(FEATURES, FEATURES))


HOOKED = Block()
HOOKED.register_forward_hook(lambda module, args, output: output)

TRAINED = {"candidate": Fsdp, "parameters": Block(), "mesh": "data=4", "optimizer": adamw, "clip_norm": 0.25}
PLAIN = TRAINED | {"candidate": Unclipped, "clip_norm": None}
FUNCTION = {"candidate": tensor_parallel, "parameters": Block(), "mesh": "tensor=4"}
SMALL = {"candidate": Replicated, "parameters": Small(), "mesh": "data=2", "optimizer": sgd}
TIED = PLAIN | {"candidate": Words, "parameters": Tied(), "reference": loss_of_words, "batch": TOKENS}
NORM = {"candidate": SyncedStatistics, "parameters": still, "mesh": "data=2", "optimizer": sgd}
NARROW = {"dtype": "bfloat16"}
INFERENCE = {"candidate": tensor_parallel_forward, "parameters": Block(), "mesh": "tensor=4", "reference": predictions,
             "batch": {"x": BATCH["x"]}}  # fmt: skip
NO_PARAMETERS = {"candidate": attention_of_rows, "parameters": {}, "mesh": "sequence=4", "reference": attention,
                 "batch": ATTENTION}  # fmt: skip
IN_TREE = {"candidate": tree_step, "parameters": TREE, "mesh": "data=4", "reference": tree_loss}
MEGATRON = {"candidate": Megatron, "parameters": Block(), "mesh": "tensor=4", "optimizer": adamw}

KINDS = {
    "module": FUNCTION,
    "module in bfloat16": FUNCTION | NARROW,
    "module with a fault": FUNCTION | {"candidate": tensor_parallel_of_half},
    "module that a function makes": FUNCTION | {"parameters": Block},
    "module with a hook": FUNCTION | {"parameters": HOOKED},
    "trainer": TRAINED,
    "trainer in bfloat16": TRAINED | NARROW,
    "clips unseen": TRAINED | {"candidate": ClipsUnseen},
    "clips itself": TRAINED | {"candidate": ClipsItself},
    "clips by its own norm": TRAINED | {"candidate": OwnNorm},
    "clips by its own norm in bfloat16": TRAINED | {"candidate": OwnNorm} | NARROW,
    "accumulates": TRAINED | {"candidate": Accumulating},
    "accumulates in bfloat16": TRAINED | {"candidate": Accumulating} | NARROW,
    "accumulates sums": TRAINED | {"candidate": AccumulatesSums},
    "keeps gradients": PLAIN | {"candidate": KeepsGradients},
    "groups": PLAIN | {"candidate": Grouped, "optimizer": in_groups},
    "one group": PLAIN | {"candidate": OneGroup, "optimizer": in_groups},
    "optimizer made early": PLAIN | {"candidate": Early},
    "average": PLAIN | {"candidate": Averaging, "ema": 0.75},
    "average in bfloat16": PLAIN | {"candidate": Averaging, "ema": 0.75} | NARROW,
    "average too early": PLAIN | {"candidate": AveragingBefore, "ema": 0.75},
    "tied": TIED,
    "tied in bfloat16": TIED | NARROW,
    "untied": TIED | {"candidate": Untied},
    "frozen": SMALL,
    "thawed": SMALL | {"candidate": Thaws},
    "buffers": NORM,
    "buffers in float32": NORM | {"dtype": "float32"},
    "buffers thrown away": NORM | {"candidate": Uncounted},
    "buffers of own rows": NORM | {"candidate": Replicated},
    "dropout in training": NORM | {"parameters": dropping},
    "tree": IN_TREE,
    "tree in bfloat16": IN_TREE | NARROW,
    "tree with a fault": IN_TREE | {"candidate": crossed_tree_step},
    "forward only": INFERENCE,
    "forward only in bfloat16": INFERENCE | NARROW,
    "forward only with a fault": INFERENCE | {"candidate": forward_of_a_rank},
    "no parameters": NO_PARAMETERS,
    "no parameters with a fault": NO_PARAMETERS | {"candidate": attention_of_blocks},
    "class as reference": SMALL | {"reference": Alone, "optimizer": None},
    "class as reference, with a fault": SMALL | {"reference": Alone, "optimizer": None, "candidate": Thaws},
    "megatron": MEGATRON,
    "megatron in bfloat16": MEGATRON | NARROW,
    "silent": MEGATRON | {"candidate": Silent},
    "silent with a layout": MEGATRON | {"candidate": Silent, "declare": Declarations(layout=LAYOUT)},
    "declared": MEGATRON | {"declare": reduced},
    "declared in float32": MEGATRON | {"declare": reduced, "dtype": "float32"},
    "declares nothing": MEGATRON | {"declare": nothing},
    "sleeps": FUNCTION | {"candidate": sleeping, "timeout": 10.0},
}


if __name__ == "__main__":
    for kind in sys.argv[1:] or KINDS:
        asked = {"reference": loss_of, "batch": BATCH} | KINDS[kind]
        try:
            judgement = conformance.check(**asked)
            answer = {"kind": kind, "verdict": judgement.result.verdict, "text": str(judgement)}
        except ValueError as refusal:
            answer = {"kind": kind, "verdict": "refused", "text": str(refusal)}
        print(f"\x1e{json.dumps(answer)}", flush=True)
