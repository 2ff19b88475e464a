"""A capture in torch: hooks see the steps of somebody's trainer, and write down what this rank holds in each."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor

from conformance.capture.names import first_match
from conformance.capture.records import RankRecord
from conformance.capture.request import Request
from conformance.capture.torch_held import Ranks, dtype_of, part_of
from conformance.capture.torch_hooks import is_training, named_inputs, on_output, rehearsing, watched
from conformance.capture.torch_moved import LowerWatch, converted, in_float64, move_parameters, moved_inputs
from conformance.capture.writer import Part, Writer
from conformance.trace.torch_clipping import clipping
from conformance.trace.torch_sparse import dense
from conformance.trace.torch_watcher import in_backward
from conformance.trace.torch_wrappers import plain
from conformance.workers.observe import Unreadable
from conformance.workers.torch_layout import megatron

_LOG = logging.getLogger("shardproof.capture")

OF_PARAMETERS = ("parameters/", "gradients/", "clipped/", "optimizer/")
MODULES = "modules/"  # before the name of a module, in patterns of placements


class TorchCapture:
    """The context that `conformance.capture` gives in torch; one in every process."""

    def __init__(self, request: Request, *, model: Any, optimizer: Any, mesh: Any) -> None:
        self.request, self.model, self.optimizer = request, model, optimizer
        self.models = tuple(model) if isinstance(model, (list, tuple)) else (model,)
        self.optimizers = tuple(optimizer) if isinstance(optimizer, (list, tuple)) else (optimizer,)
        if not all(isinstance(each, torch.optim.Optimizer) for each in self.optimizers):
            raise ValueError("capture needs the optimizer of the model, or all of them: by its steps it counts.")
        self.ranks = Ranks.of(mesh)
        self._hooks = ExitStack()
        self._taken = self._calls = self._stepped = 0
        self._clipped = self._lossless = self._rehearses = False
        self._watch = LowerWatch() if request.orders.dtype == "float64" else None

    def __enter__(self) -> TorchCapture:
        given = dtype_of(next(self.models[0].parameters()))
        for model in self.models:
            converted(model, self.request.orders)
        self._parameters = self._named()
        move_parameters(self._parameters.items(), self.request.orders)
        self._writer = Writer(self.request.folder, self._record(given))
        self._writer.open("start")
        for name, value in self._parameters.items():
            self._add(f"parameters/{name}", value)
        self._writer.close()
        self._attach()
        self._writer.open("step 1")
        return self

    def __exit__(self, kind: Any, *broken: Any) -> None:
        self._end_step()
        self._let_go()
        self._writer.update(finished=kind is None)
        if self._writer.record.process == 0:
            print(self._writer.said(), flush=True)

    def loss(self, value: Any, placements: dict[str, str] | None = None) -> None:
        """The loss of the step, before or after the optimizer has stepped, once; the same on every rank.

        `placements` says so where it is not: {'data': 'P'} is a term of a sum over `data`.
        """
        if self._open:
            with self._writer.busy():
                if self._lossless:
                    raise ValueError(f"Step {self._taken + 1} has two losses: give that of the whole step, once.")
                self._lossless = True
                self._add("loss", torch.as_tensor(value), placements=placements)

    def before_clipping(self) -> None:
        """Where a trainer clips gradients by its own arithmetic, it calls this just before."""
        if self._open and not self._clipped and not self._stepped:
            self._clipped = True
            self._gradients("gradients", self._parameters)

    def batch(self, batch: Any) -> Any:
        """As in JAX; here the model's own inputs are seen, and nothing need be handed over."""
        return batch

    @property
    def _open(self) -> bool:
        return self._taken < self.request.steps

    def _named(self) -> dict[str, torch.nn.Parameter]:
        pairs = [(plain(name), p) for model in self.models for name, p in model.named_parameters() if p.requires_grad]
        named = dict(pairs)
        if len(named) != len(pairs):
            raise ValueError("Two of the models have parameters of the same name: give each its own `names`.")
        return named

    def _record(self, given: str) -> RankRecord:
        run = [uuid.uuid4().hex]
        if dist.is_initialized():
            dist.broadcast_object_list(run)
        return RankRecord(
            run=run[0],
            framework="torch",
            process=dist.get_rank() if dist.is_initialized() else 0,
            processes=len(self.ranks.order),
            mesh=dict(self.ranks.mesh.sizes),
            positions=(self.ranks.position,),
            dtype=dtype_of(next(self.models[0].parameters())),
            given_dtype=given,
            recipe=_recipe(self.optimizers[0]),
            **self.request.fields(),
        )

    def _attach(self) -> None:
        own = self._hooks
        for model in self.models:
            hook = model.register_forward_pre_hook(self._begins, with_kwargs=True, prepend=True)
            own.callback(hook.remove)
            for name, module in watched(model, self.request.modules):
                own.callback(module.register_forward_hook(on_output(f"activations/{name}", self._output)).remove)
        if self.ranks.is_last:
            own.callback(self.models[-1].register_forward_hook(on_output("outputs/model", self._output)).remove)
        for optimizer in self.optimizers:
            own.callback(optimizer.register_step_pre_hook(self._about_to_step).remove)
            own.callback(optimizer.register_step_post_hook(self._has_stepped).remove)
        own.enter_context(clipping(self._clips))
        if self._watch is not None:
            own.enter_context(self._watch)
            for model in self.models:
                for remove in in_float64(model):
                    own.callback(remove)

    def _let_go(self) -> None:
        self._hooks.close()

    def _begins(self, model: torch.nn.Module, args: Any, kwargs: Any) -> Any:
        """A forward call: a step that is over is ended, and the batch is written down."""
        self._rehearses = rehearsing()
        if self._rehearses or not is_training(model):
            return None
        if self._stepped == len(self.optimizers):
            self._end_step()
        if not self._open:
            return None
        with self._writer.busy():
            what = f"{self._taken}.{self._calls}"
            args = moved_inputs(args, what, self.request.orders)
            kwargs = moved_inputs(kwargs, what, self.request.orders)
            self._calls += model is self.models[0]
            for key, value in named_inputs(model, args, kwargs).items():
                if isinstance(value, torch.Tensor) and not value.requires_grad and value.ndim:
                    self._add(f"batch/{key}", value, call=self._call)
        return args, kwargs

    @property
    def _call(self) -> int:
        return max(self._calls - 1, 0)

    def _output(self, name: str, value: torch.Tensor) -> None:
        if self._open and not self._stepped and not self._rehearses:
            with self._writer.busy():
                module = name.partition("/")[2]
                try:
                    self._add(name, value, placements=self._said(f"{MODULES}{module}"), call=self._call)
                except Unreadable:  # half of a reduction, say: outputs inside the model are wanted, and not owed
                    _LOG.debug("The output of '%s' is not captured.", module, exc_info=True)

    def _clips(self, _: list[torch.Tensor], threshold: float, norm: torch.Tensor) -> None:
        self.before_clipping()
        if self._open and not self._stepped and not self._writer.has("metrics/grad_norm"):
            with self._writer.busy():
                self._writer.record.recipe.setdefault("clip_norm", threshold)
                self._add("metrics/grad_norm", norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def _about_to_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """In the backward pass gradients of others are not there yet, or not reduced."""
        if self._open and (in_backward() or not self._stepped):
            own = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            wanted = {n: p for n, p in self._parameters.items() if id(p) in own or not in_backward()}
            self._gradients("clipped" if self._clipped else "gradients", wanted)

    def _gradients(self, kind: str, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        """From the last parameter to the first, as the backward pass makes them."""
        with self._writer.busy():
            for name, parameter in reversed(list(parameters.items())):
                gradient = getattr(parameter, "main_grad", None) if parameter.grad is None else parameter.grad
                if gradient is not None and not self._writer.has(f"{kind}/{name}"):
                    self._add(f"{kind}/{name}", dense(gradient), like=parameter)

    def _has_stepped(self, *_: Any) -> None:
        self._stepped += 1
        if self._open and self._stepped == len(self.optimizers):
            with self._writer.busy():
                self._slots()
                for name, value in self._parameters.items():
                    self._add(f"parameters/{name}", value)

    def _slots(self) -> None:
        names = {parameter: name for name, parameter in self._parameters.items()}
        for state in map(_state, self.optimizers):
            for parameter, slots in state.items():
                for slot, value in slots.items():
                    if isinstance(value, torch.Tensor) and parameter in names:
                        self._add(f"optimizer/{slot}/{names[parameter]}", value, like=parameter)

    def _end_step(self) -> None:
        """What was seen of a step goes to the disk, if the optimizer has stepped; then the next one begins."""
        if not self._open or self._stepped < len(self.optimizers):
            return
        recipe = self._writer.record.recipe | {"accumulation": self._calls}
        lower = [] if self._watch is None else list(self._watch.lower.values())
        self._writer.close(recipe=recipe, lower=lower)
        self._taken += 1
        self._calls = self._stepped = 0
        self._clipped = self._lossless = False
        if self._open:
            self._writer.open(f"step {self._taken + 1}")
        else:
            self._let_go()

    def _said(self, name: str) -> dict[str, str] | None:
        placements = first_match(name, self.request.placements)
        return None if placements is None else dict(placements)

    def _add(
        self,
        name: str,
        value: torch.Tensor,
        *,
        like: torch.Tensor | None = None,
        placements: dict[str, str] | None = None,
        call: int | None = None,
    ) -> None:
        """`like` is the parameter of which it is a gradient or a slot."""
        parameter = value if like is None else like
        if placements is None and value.ndim and name.startswith(OF_PARAMETERS):
            own = name.split("/", 2 if name.startswith("optimizer/") else 1)[-1]
            placements = self._said(own) or megatron(parameter, self.ranks.mesh)
        shape, part = part_of(value, self.ranks)
        parts: list[Part] = [] if part is None else [part]
        self._writer.add(name, dtype_of(value), shape, parts, placements=placements, call=call)


def _state(optimizer: torch.optim.Optimizer) -> dict[Any, Any]:
    """Of one that is partitioned over the ranks, what lies here."""
    return optimizer.optim.state if isinstance(optimizer, ZeroRedundancyOptimizer) else optimizer.state


def _recipe(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {"optimizer": type(optimizer).__name__.lower(), "learning_rate": float(optimizer.param_groups[0]["lr"])}
