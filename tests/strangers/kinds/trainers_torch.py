"""Trainers of many kinds in torch, right ones and broken ones; run as a script, it prints verdicts."""

import torch
import torch.distributed as dist
from answering import answer_for
from fsdp_torch import (
    AccumulatesSums,
    Accumulating,
    Averaging,
    AveragingBefore,
    ClipsItself,
    ClipsUnseen,
    Early,
    Fsdp,
    Grouped,
    KeepsGradients,
    OneGroup,
    OwnNorm,
    Unclipped,
    Untied,
    Words,
    rows,
    whole,
)
from functions_torch import (
    ATTENTION,
    TREE,
    attention,
    attention_of_blocks,
    attention_of_rows,
    crossed_tree_step,
    forward_of_a_rank,
    sleeping,
    tensor_parallel,
    tensor_parallel_forward,
    tensor_parallel_of_half,
    tree_loss,
    tree_step,
)
from megatron_torch import LAYOUT, Megatron, Silent, nothing, reduced
from models_torch import (
    BATCH,
    HOOKED,
    TOKENS,
    Block,
    Small,
    Tied,
    adamw,
    dropping,
    in_groups,
    loss_of,
    loss_of_words,
    predictions,
    sgd,
    still,
)
from torch import nn
from torch.distributed.nn.functional import all_reduce

from conformance import Declarations


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
    answer_for(KINDS, reference=loss_of, batch=BATCH)
