"""A torch step in stochastic arithmetic: a dispatch mode below autograd, which sees forward, backward and update alike.

Operations that hold a sum of their own (softmax, norms, losses) are taken apart into those that are known here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first dispatch mode imports it anyway, for seconds: better before a fork server forks
from torch._decomp import decomposition_table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from conformance.evidence.arithmetic import Operation
from conformance.trace.lower_precision import lower_precision, unaffected
from conformance.trace.stochastic import Stochastic
from conformance.trace.torch_dataflow import TorchFlow

_LOG = logging.getLogger("shardproof.trace")

aten = torch.ops.aten
Step = Callable[[Any, Any], tuple[Any, Any]]


class StochasticStep:
    """A training step evaluated for several members, one after the other.

    `lower` is what the step rounds to fewer bits than float64, as the first member does it; `exact` is observed
    before that.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._followed = False
        self.lower: tuple[Operation, ...] = ()
        self.exact: frozenset[str] = frozenset()

    def __call__(self, states: Sequence[Any], batches: Sequence[Any], arithmetic: Stochastic) -> list[tuple[Any, Any]]:
        """One step of every member -> its (state, observations)."""
        with sdpa_kernel(SDPBackend.MATH), _Mode(arithmetic):
            return [self._one(state, batch) for state, batch in zip(states, batches, strict=True)]

    def _one(self, state: Any, batch: Any) -> tuple[Any, Any]:
        if self._followed:
            return self._step(state, batch)
        self._followed, follower = True, _Follower()
        with follower:
            returned = self._step(state, batch)
        self.lower, self.exact = follower.lower(returned), follower.exact(returned[1])
        return returned


class _Follower(TorchDispatchMode):
    """Sees the operations of a step as they are asked for, before others take them apart."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._flow: TorchFlow | None = TorchFlow(bits=64)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        try:
            if self._flow is not None and isinstance(func, torch._ops.OpOverload):
                self._flow.operation(func, args, kwargs or {}, out)
        except Exception:  # a tensor without a memory of its own ends the following, and never the step
            _LOG.debug("The reference's step is followed no further than %s.", func, exc_info=True)
            self._flow = None
        return out

    def lower(self, returned: Any) -> tuple[Operation, ...]:
        flow = self._flow
        results = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, torch.Tensor)]
        return () if flow is None else lower_precision(flow.nodes, [flow.node(result) for result in results])

    def exact(self, observed: Mapping[str, Any]) -> frozenset[str]:
        flow = self._flow
        results = {name: value for name, value in observed.items() if isinstance(value, torch.Tensor)}
        nodes = {} if flow is None else {name: flow.node(result) for name, result in results.items()}
        return frozenset() if flow is None else unaffected(flow.nodes, nodes)


class _Mode(TorchDispatchMode):
    def __init__(self, arithmetic: Stochastic) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arithmetic = arithmetic

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, func.overloadpacket.__name__
        if name in _ORDERED and _is_rounded(args[0]):
            return _ORDERED[name](self.arithmetic, func, args, kwargs)
        if name in TAKEN_APART and func in decomposition_table:
            with self:
                return decomposition_table[func](*args, **kwargs)
        if name in ("add", "sub") and _is_sum(args, kwargs):
            return _added(self.arithmetic, func, args, kwargs)
        out = func(*args, **kwargs)
        if name.removesuffix("_") in FUNCTIONS or name.startswith(ALGEBRA):
            for leaf in tree_leaves(out):
                if _is_rounded(leaf):
                    _round(self.arithmetic, leaf)
        return out


# Taken apart by torch's own decompositions.
TAKEN_APART = frozenset((
    "_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data", "logsumexp",
    "native_layer_norm", "native_layer_norm_backward", "native_group_norm", "native_group_norm_backward",
    "native_batch_norm", "native_batch_norm_backward", "_native_batch_norm_legit", "_fused_rms_norm",
    "_fused_rms_norm_backward", "nll_loss_forward", "mse_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "var", "var_mean", "std", "std_mean", "linalg_vector_norm", "norm", "addmm",
    "addmv", "mv", "baddbmm", "embedding_dense_backward",
))  # fmt: skip
FUNCTIONS = frozenset((
    "pow", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh",
    "cosh", "tanh", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh", "sigmoid", "erf", "erfc", "erfinv",
    "lgamma", "digamma", "gelu", "gelu_backward", "silu", "silu_backward", "softplus", "softplus_backward", "elu",
    "elu_backward", "mish", "log_sigmoid_forward", "log_sigmoid_backward", "logaddexp", "logcumsumexp", "cumprod",
    "avg_pool2d", "avg_pool2d_backward", "convolution_backward",
))  # fmt: skip
ALGEBRA = ("linalg_", "_linalg_", "fft_", "_fft_", "cdist", "_cdist")


def _is_rounded(value: Any) -> bool:
    return (
        type(value) in (torch.Tensor, torch.nn.Parameter)
        and value.dtype in (torch.float64, torch.float32)
        and value.device.type == "cpu"
    )


def _array(x: torch.Tensor) -> np.ndarray:
    """As the one member that it is here."""
    return x.detach().numpy()[None]


def _tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(x[0]) if x.ndim > 1 else np.array(x[0]))


def _round(arithmetic: Stochastic, x: torch.Tensor) -> None:
    """In place: x is new, or was just written to."""
    x.detach().copy_(_tensor(arithmetic.rounded(_array(x))))


def _is_sum(args: Any, kwargs: Any) -> bool:
    """Of two tensors of one dtype, the second as it is."""
    a, b = args[:2]
    return _is_rounded(a) and _is_rounded(b) and a.dtype == b.dtype and kwargs.get("alpha", 1) == 1 and len(args) == 2


def _added(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> torch.Tensor:
    total = func(*args, **kwargs)
    a, b = (x.detach().numpy() for x in args)
    sign = -1 if func.overloadpacket.__name__ == "sub" else 1
    return torch.from_numpy(np.asarray(arithmetic.added(a, sign * b, total.detach().numpy())))


def _dims(asked: Any, rank: int) -> list[int]:
    if asked is None or asked == []:
        return list(range(rank))
    asked = [asked] if isinstance(asked, int) else asked
    return [dim % rank for dim in asked] if rank else []


def _reduced(operation: Callable[..., np.ndarray], x: torch.Tensor, dims: Any, keep: bool) -> torch.Tensor:
    asked = _dims(dims, x.ndim)
    reduced = _tensor(operation(_array(x), [dim + 1 for dim in asked]))
    return reduced.reshape([1 if dim in asked else size for dim, size in enumerate(x.shape)]) if keep else reduced


def _sum(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    if kwargs.get("dtype") not in (None, args[0].dtype):
        return func(*args, **kwargs)
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    return _reduced(arithmetic.total, args[0], dims, args[2] if len(args) > 2 else kwargs.get("keepdim", False))


def _prod(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    return _reduced(arithmetic.multiplied, args[0], dims, args[2] if len(args) > 2 else kwargs.get("keepdim", False))


def _mean(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    total = _sum(arithmetic, func, args, kwargs)
    mean = total / (args[0].numel() / max(total.numel(), 1))
    _round(arithmetic, mean)
    return mean


def _cumsum(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    if not args[0].ndim:
        return func(*args, **kwargs)
    return _tensor(arithmetic.running(_array(args[0]), args[1] % args[0].ndim + 1))


def _product(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    return _tensor(arithmetic.product(_array(args[0]), _array(args[1])))


def _dot(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    a, b = args
    return _tensor(arithmetic.product(_array(a[None]), _array(b[:, None]))).reshape(())


def _index_add(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    """index_add and scatter_add: what meets in one place is added up in another order."""
    x, dim, index, y = args
    if index.ndim != y.ndim and y.ndim and index.ndim == 1:
        order = torch.from_numpy(arithmetic.orders(1, len(index))[0])
        args = (x, dim, index[order], y.index_select(dim, order))
    elif index.ndim and index.shape == y.shape:
        order = torch.from_numpy(arithmetic.orders(1, index.shape[dim])[0])
        args = (x, dim, index.index_select(dim, order), y.index_select(dim, order))
    return _rounded_result(arithmetic, func, args, kwargs)


def _index_put(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    x, indices, y, *more = args
    accumulates = more[0] if more else kwargs.get("accumulate", False)
    if not accumulates:
        return func(*args, **kwargs)
    [index] = indices if len(indices) == 1 else [None]
    if index is not None and index.ndim and index.dtype == torch.int64 and y.shape[: index.ndim] == index.shape:
        order = torch.from_numpy(arithmetic.orders(1, index.numel())[0])
        args = (x, [index.reshape(-1)[order]], y.reshape(index.numel(), *y.shape[index.ndim :])[order], *more)
    return _rounded_result(arithmetic, func, args, kwargs)


def _convolution(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    """Input channels in another order, every term rounded."""
    x, kernel, *more = args
    if more[-1] == 1:  # one group
        order = torch.from_numpy(arithmetic.orders(1, kernel.shape[0 if more[4] else 1])[0])
        x, kernel = x.index_select(1, order), kernel.index_select(0 if more[4] else 1, order)
    x, kernel = (_tensor(arithmetic.rounded(_array(operand))) for operand in (x, kernel))
    return _rounded_result(arithmetic, func, (x, kernel, *more), kwargs)


def _rounded_result(arithmetic: Stochastic, func: Any, args: Any, kwargs: Any) -> Any:
    out = func(*args, **kwargs)
    _round(arithmetic, out)
    return out


_ORDERED: dict[str, Callable[[Stochastic, Any, Any, Any], Any]] = {
    "sum": _sum,
    "mean": _mean,
    "prod": _prod,
    "cumsum": _cumsum,
    "mm": _product,
    "bmm": _product,
    "dot": _dot,
    "index_add": _index_add,
    "index_add_": _index_add,
    "scatter_add": _index_add,
    "scatter_add_": _index_add,
    "index_put": _index_put,
    "index_put_": _index_put,
    "convolution": _convolution,
}
