"""Data parallelism: every rank has the whole state and its own rows.

Law: the gradient of the whole batch is the sum of the ranks' gradients of their sums of losses, divided once by the
valid elements of all ranks; so each of them takes the same step. The axis `fsdp` is one more axis of rows.
Source: Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training, section 3.
"""

from __future__ import annotations

from typing import ClassVar

from suites.data.step_budget import DATA_PARALLEL, evaluated
from suites.data.torch_manual.contrastive import ContrastiveTowers
from suites.data.torch_manual.evaluation import Evaluation
from suites.tensor.torch_manual import linear, transformer
from suites.training.step_budget import Budgets


class DataParallel:
    """A mixin for a training step, which may also be tensor-parallel."""

    sends: ClassVar[Budgets] = DATA_PARALLEL

    row_axes: ClassVar[tuple[str, ...]] = ("data", "fsdp")


class Linear(DataParallel, linear.ColumnLinear):
    """One linear layer."""


class Layer(DataParallel, transformer.Layer):
    """One decoder layer."""


class LanguageModel(DataParallel, transformer.LanguageModel):
    """The decoder language model."""


class Contrastive(DataParallel, ContrastiveTowers):
    """Two towers and a loss that couples all rows."""


class Evaluated(Evaluation, LanguageModel):
    """The same, and an evaluation after every step."""

    sends = evaluated(DATA_PARALLEL)
