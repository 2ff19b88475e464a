"""A perceptron in pipeline stages under 1F1B, in plain torch.distributed."""

import torch
import torch.distributed as dist
import torch.nn.functional as F

from conformance import Implementation
from conformance.contract.implementation import Sharded


class Program(Implementation):
    framework = "torch"

    def place(self, parameters, mesh):
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.first, self.last = self.rank == 0, self.rank == self.world - 1
        self.widths = self.contract.model.widths
        layers = len(self.widths) - 1
        self.own = range(layers * self.rank // self.world, layers * (self.rank + 1) // self.world)
        self.dt = torch.float64 if self.dtype == "float64" else torch.float32
        names = [f"layers.{i}.{leaf}" for i in self.own for leaf in ("weight", "bias")]
        params = {name: torch.tensor(parameters[name], dtype=self.dt) for name in names}
        return {"params": params, "momentum": {n: torch.zeros_like(p) for n, p in params.items()}, "count": 0}

    # One step.

    def step(self, state, batch):
        number = self.contract.recipe.microbatches
        self.params = {name: p.detach().requires_grad_() for name, p in state["params"].items()}
        self.grads = {name: torch.zeros_like(p) for name, p in self.params.items()}
        self.inputs = torch.tensor(batch["inputs"], dtype=self.dt).chunk(number)
        self.targets = torch.tensor(batch["targets"], dtype=torch.int64).chunk(number)
        self.masks = torch.tensor(batch["mask"], dtype=self.dt).chunk(number)
        self.sums = torch.zeros(2, dtype=self.dt)
        self.seen, self.input_grads = {}, []
        self.run(number)

        weight = torch.tensor(batch["mask"], dtype=self.dt).sum()
        total = weight.clamp(min=1)
        dist.all_reduce(self.sums)
        entropy, z = (self.sums / total).unbind()
        gradients = {name: g / total for name, g in self.grads.items()}
        square = sum((g * g).sum() for g in gradients.values())
        dist.all_reduce(square)
        norm = square.sqrt()
        observed = {"loss": entropy + z, "metrics/cross_entropy": entropy, "metrics/z_loss": z}
        observed |= {"metrics/tokens": weight, "metrics/grad_norm": norm}
        observed |= {name: self.owned(torch.cat(parts)) for name, parts in self.seen.items()}
        observed |= {f"gradients/{name}": self.owned(g) for name, g in gradients.items()}
        if self.first:
            observed["input_gradients/inputs"] = self.owned(torch.cat(self.input_grads) / total)
        return self.sgd(state, gradients, norm), observed

    def sgd(self, state, gradients, norm):
        recipe = self.contract.recipe
        clip = (recipe.clip_norm / norm).clamp(max=1)
        momentum, params = {}, {}
        for name, p in state["params"].items():
            momentum[name] = (
                recipe.momentum * state["momentum"][name] + clip * gradients[name] + recipe.weight_decay * p
            )
            params[name] = p - recipe.learning_rate * momentum[name]
        return {"params": params, "momentum": momentum, "count": state["count"] + 1}

    # The schedule.

    def run(self, number):
        warmup = min(self.world - self.rank - 1, number)
        steady = number - warmup
        self.saved = []
        self.next_forward = 0
        for _ in range(warmup):
            y = self.forward_step(self.recv_forward())
            self.communicate(send_next=y)
        x = self.recv_forward() if steady else None
        for i in range(steady):
            y = self.forward_step(x)
            grad = None if self.last else self.communicate(send_next=y, recv_next=y.shape)[1]
            x_grad = self.backward_step(grad)
            if i == steady - 1:
                self.communicate(send_prev=x_grad)
            elif self.first:
                x = self.recv_forward()
            else:
                x = self.communicate(send_prev=x_grad, recv_prev=self.entering())[0]
        for _ in range(warmup):
            grad = self.communicate(recv_next=self.leaving())[1]
            self.communicate(send_prev=self.backward_step(grad))

    def recv_forward(self):
        if self.first:
            return self.inputs[self.next_forward]
        return self.communicate(recv_prev=self.entering())[0]

    def forward_step(self, x):
        m, self.next_forward = self.next_forward, self.next_forward + 1
        x = x.detach().requires_grad_()
        y = x
        for i in self.own:
            y = y @ self.params[f"layers.{i}.weight"] + self.params[f"layers.{i}.bias"]
            if i < len(self.widths) - 2:
                y = F.gelu(y, approximate="tanh")
                self.note(f"activations/layers.{i}", y)
        out = self.loss(y, m) if self.last else y
        self.saved.append((x, out))
        return out

    def backward_step(self, grad):
        x, out = self.saved.pop()
        x_grad, *grads = torch.autograd.grad(out, [x, *self.params.values()], grad)
        for name, g in zip(self.params, grads, strict=True):
            self.grads[name] += g
        if self.first:
            self.input_grads.append(x_grad)
        return x_grad

    def loss(self, logits, m):
        model, targets, mask = self.contract.model, self.targets[m], self.masks[m]
        lse = logits.logsumexp(-1)
        target = logits.gather(1, targets[:, None])[:, 0]
        smoothing = model.label_smoothing
        entropy = mask * (lse - (1 - smoothing) * target - smoothing * logits.mean(-1))
        z = mask * model.z_loss * lse**2
        self.note("outputs/logits", logits)
        self.note("outputs/token_losses", entropy + z)
        self.sums += torch.stack([entropy.sum(), z.sum()]).detach()
        return (entropy + z).sum()

    def note(self, name, value):
        self.seen.setdefault(name, []).append(value.detach())

    # Messages.

    def entering(self):
        return len(self.masks[0]), self.widths[self.own.start]

    def leaving(self):
        return len(self.masks[0]), self.widths[self.own.stop]

    def communicate(self, send_next=None, send_prev=None, recv_prev=None, recv_next=None):
        """-> (what the previous stage sent, what the next stage sent)."""
        operations, from_prev, from_next = [], None, None
        if send_prev is not None and not self.first:
            operations.append(dist.P2POp(dist.isend, send_prev.detach().contiguous(), self.rank - 1))
        if recv_prev is not None:
            from_prev = torch.empty(recv_prev, dtype=self.dt)
            operations.append(dist.P2POp(dist.irecv, from_prev, self.rank - 1))
        if send_next is not None and not self.last:
            operations.append(dist.P2POp(dist.isend, send_next.detach().contiguous(), self.rank + 1))
        if recv_next is not None:
            from_next = torch.empty(recv_next, dtype=self.dt)
            operations.append(dist.P2POp(dist.irecv, from_next, self.rank + 1))
        for work in dist.batch_isend_irecv(operations) if operations else ():
            work.wait()
        return from_prev, from_next

    # State.

    def owned(self, value):
        if "pipeline" not in self.mesh.axes:
            return value
        return Sharded(local=value, placements={"pipeline": f"O({self.rank})"}, shape=tuple(value.shape))

    def collect(self, state):
        found = {f"parameters/{name}": self.owned(p) for name, p in state["params"].items()}
        found |= {f"optimizer/momentum/{name}": self.owned(m) for name, m in state["momentum"].items()}
        return found | {"optimizer/count": state["count"]}
