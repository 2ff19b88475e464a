"""Vocabulary-parallel embedding, RMS norm, tied head and cross-entropy; rows over `data`, ids over `tensor`."""

import torch
import torch.distributed as dist

from conformance import Implementation, Sharded


class Copy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return all_reduce(g, ctx.group), None


class Reduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, group):
        return all_reduce(x, group)

    @staticmethod
    def backward(ctx, g):
        return g, None


def all_reduce(x, group, op=dist.ReduceOp.SUM):
    if group is None:
        return x
    x = x.detach().clone().contiguous()
    dist.all_reduce(x, op=op, group=group)
    return x


class Program(Implementation):
    framework = "torch"

    def place(self, parameters, mesh):
        self.master = torch.float64 if self.dtype == "float64" else torch.float32
        self.compute = getattr(torch, self.dtype)
        self.groups = {axis: mesh.get_group(axis) for axis in self.mesh.axes if self.mesh.size(axis) > 1}
        self.ranks = {axis: mesh.get_local_rank(axis) for axis in self.mesh.axes}
        vocabulary = self.contract.model.vocabulary
        width = -(-vocabulary // self.mesh.size("tensor"))
        self.start = self.ranks.get("tensor", 0) * width
        self.end = min(self.start + width, vocabulary)
        own = parameters | {"embedding.weight": parameters["embedding.weight"][self.start : self.end]}
        values = {name: torch.tensor(value, dtype=self.master) for name, value in own.items()}
        momentum = {name: torch.zeros_like(value) for name, value in values.items()}
        return {"parameters": values, "momentum": momentum, "count": 0}

    def step(self, state, batch):
        recipe, data = self.contract.recipe, self.groups.get("data")
        rows = self.own_rows(batch)
        leaves = {name: p.detach().requires_grad_() for name, p in state["parameters"].items()}
        sums, seen = torch.zeros(4, dtype=self.master), []
        gradients = {name: torch.zeros_like(p) for name, p in leaves.items()}
        for part in zip(*(value.chunk(recipe.accumulation) for value in rows.values()), strict=True):
            loss, new, observed = self.forward(leaves, dict(zip(rows, part, strict=True)))
            for name, g in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
                gradients[name] = gradients[name] + g
            sums = sums + new
            seen.append(observed)
        loss, entropy, z, tokens = all_reduce(sums, data)
        weight = torch.where(tokens == 0, 1, tokens)
        gradients = {name: all_reduce(g, data) / weight for name, g in gradients.items()}
        norm = self.norm_of(gradients)
        observations = {name: self.row_block(name, torch.cat([part[name] for part in seen])) for name in seen[0]}
        observations |= {"loss": loss / weight, "metrics/tokens": tokens, "metrics/grad_norm": norm}
        observations |= {"metrics/cross_entropy": entropy / weight, "metrics/z_loss": z / weight}
        observations |= {f"gradients/{name}": self.stored(name, g) for name, g in gradients.items()}
        clip = (recipe.clip_norm / norm).clamp(max=1)
        momentum, parameters = {}, {}
        for name, p in state["parameters"].items():
            decayed = clip * gradients[name] + recipe.weight_decay * p
            momentum[name] = recipe.momentum * state["momentum"][name] + decayed
            parameters[name] = p - recipe.learning_rate * momentum[name]
        return {"parameters": parameters, "momentum": momentum, "count": state["count"] + 1}, observations

    def forward(self, p, batch):
        model, group = self.contract.model, self.groups.get("tensor")
        table = p["embedding.weight"].to(self.compute)
        local, here = self.local_ids(batch["tokens"])
        x = embedded = Reduce.apply(table[local] * here[..., None], group)
        wide = x.to(self.master)
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + model.norm_epsilon)
        x = (wide * p["final_norm.scale"]).to(self.compute)
        logits = Copy.apply(x, group) @ table.T
        entropy, z = self.cross_entropy(logits.to(self.master), batch["targets"])
        mask = batch["mask"]
        losses = mask * (entropy + z)
        sums = torch.stack([losses.sum(), (mask * entropy).sum(), (mask * z).sum(), mask.sum()]).detach()
        observed = {"activations/embedding": embedded, "activations/final_norm": x}
        observed |= {"outputs/logits": logits, "outputs/token_losses": losses}
        return losses.sum(), sums, {name: value.detach() for name, value in observed.items()}

    def cross_entropy(self, logits, targets):
        """Label-smoothed loss and the z term of every token, from this rank's part of the logits."""
        model, group = self.contract.model, self.groups.get("tensor")
        largest = all_reduce(logits.detach().amax(-1), group, dist.ReduceOp.MAX)
        sum_exp = Reduce.apply((logits - largest[..., None]).exp().sum(-1), group)
        log_z = sum_exp.log() + largest
        local, here = self.local_ids(targets)
        target_logit = Reduce.apply(logits.gather(-1, local[..., None])[..., 0] * here, group)
        loss = log_z - target_logit
        if model.label_smoothing > 0:
            log_probs = logits - log_z[..., None]
            mean_log_probs = log_probs.mean(dim=-1)
            loss = (1.0 - model.label_smoothing) * loss - model.label_smoothing * mean_log_probs
        return loss, model.z_loss * log_z.square()

    def local_ids(self, ids):
        here = (ids >= self.start) & (ids < self.end)
        return torch.where(here, ids - self.start, 0), here

    def norm_of(self, gradients):
        split = all_reduce(gradients["embedding.weight"].square().sum(), self.groups.get("tensor"))
        return (split + gradients["final_norm.scale"].square().sum()).sqrt()

    def own_rows(self, batch):
        rank, size = self.ranks.get("data", 0), self.mesh.size("data")
        parts = {key: torch.tensor(value).chunk(size)[rank] for key, value in batch.items()}
        return {key: v.to(self.master) if v.is_floating_point() else v.long() for key, v in parts.items()}

    def row_block(self, name, value):
        shape = (value.shape[0] * self.mesh.size("data"), *value.shape[1:])
        if name == "outputs/logits":
            shape = (*shape[:2], self.contract.model.vocabulary)
        return self.block(value, shape, data=0, tensor=2 if name == "outputs/logits" else None)

    def stored(self, name, value):
        return self.block(value, self.contract.shapes[name], tensor=0 if name == "embedding.weight" else None)

    def block(self, value, shape, **dims):
        placements = {axis: f"S({dim})" for axis, dim in dims.items() if dim is not None and axis in self.groups}
        return Sharded(local=value, placements=placements, shape=tuple(shape)) if placements else value

    def collect(self, state):
        found = {f"parameters/{name}": self.stored(name, p) for name, p in state["parameters"].items()}
        found |= {f"optimizer/momentum/{name}": self.stored(name, v) for name, v in state["momentum"].items()}
        return found | {"optimizer/count": state["count"]}
