"""What a trainer in JAX holds at one moment: arrays, which are the state of a step, and what is beside them.

A trainer that runs is left alone: it is read after every step, and nothing is put into it. A moment is given back to it
only where that is not the one it is in: in a trace, and where a traced program has stood for its steps.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from conformance.inline.jax_attributes import Attributes, attributes_of

DECISIVE = (bool, int, float, complex, str, bytes, np.generic)  # a step may decide by it, or calculate with it


class Holder:
    """One trainer, and the moment that it is in."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._now: weakref.ref[Held] | None = None

    def taken(self) -> Held:
        """What it holds now."""
        attributes, arrays = attributes_of(self.trainer)
        held = Held(arrays, Beside(self, attributes))
        self._now = weakref.ref(held)
        return held

    def given(self, held: Held) -> Any:
        """The trainer, holding this."""
        if self._now is None or self._now() is not held:
            held.beside.attributes.give(held.arrays)
            self._now = weakref.ref(held)
        return self.trainer


@dataclass(frozen=True, eq=False)
class Beside:
    """Whose moment it is, and all but the arrays. Law: what is traced from one is a step from any that is equal."""

    holder: Holder
    attributes: Attributes

    def __hash__(self) -> int:
        return hash(self.attributes.names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Beside) and self._decides() == other._decides()

    def _decides(self) -> tuple[Any, ...]:
        own = self.attributes
        plain = [(n, type(x), x if isinstance(x, DECISIVE) else None) for n, x in own.plain.items()]
        return own.names, own.tree, own.graph, own.keys, plain


@jax.tree_util.register_pytree_with_keys_class
class Held:
    """The arrays, which are the leaves of this tree, and what is beside them."""

    def __init__(self, arrays: Sequence[Any], beside: Beside) -> None:
        self.arrays, self.beside = tuple(arrays), beside

    def tree_flatten(self) -> tuple[tuple[Any, ...], Beside]:
        return self.arrays, self.beside

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], Beside]:
        keys = map(jax.tree_util.DictKey, self.beside.attributes.names)
        return tuple(zip(keys, self.arrays, strict=True)), self.beside

    @classmethod
    def tree_unflatten(cls, beside: Beside, arrays: Sequence[Any]) -> Held:
        return cls(arrays, beside)

    @property
    def trainer(self) -> Any:
        """The trainer, holding this."""
        return self.beside.holder.given(self)
