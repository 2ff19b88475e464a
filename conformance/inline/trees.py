"""Trees of parameters: nested mappings, lists and tuples, each leaf named by its path, `layers.0.up`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

At = Callable[[str, Any], Any]  # (name, leaf) -> what stands in its place


def mapped(tree: Any, at: At, name: str = "") -> Any:
    """The same containers with other leaves. None is an empty place and stays; mappings become dicts.

    Containers that JAX knows (dataclasses, modules of other libraries) are rebuilt by JAX, if it is imported.
    """
    if tree is None:
        return None
    if isinstance(tree, Mapping):
        return {key: mapped(value, at, _below(name, key)) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        items = [mapped(item, at, _below(name, _place(tree, n))) for n, item in enumerate(tree)]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return _mapped_by_jax(tree, at, name) if is_container(tree) else at(name, tree)


def leaves(tree: Any) -> dict[str, Any]:
    """Name -> leaf, in the order of the containers. Raises ValueError where two leaves have one name."""
    by_name: dict[str, Any] = {}

    def take(name: str, leaf: Any) -> None:
        if name in by_name:
            raise ValueError(f"Two parameters of the tree have the name '{name}': name their containers differently.")
        by_name[name] = leaf

    mapped(tree, take)
    return by_name


def names(tree: Any) -> Any:
    """The same containers with the name of each leaf in its place."""
    return mapped(tree, lambda name, leaf: name)


def filled(tree: Any, values: Mapping[str, Any]) -> Any:
    """The inverse: each leaf is a name; what has no value is left out, as None."""
    return mapped(tree, lambda _, name: values.get(name))


def joined(path: Any) -> str:
    """A path of JAX as a name."""
    return ".".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def _place(tree: Any, number: int) -> Any:
    fields = getattr(tree, "_fields", None)
    return number if fields is None else fields[number]


def _below(name: str, key: Any) -> str:
    return f"{name}.{key}" if name else str(key)


def is_container(value: Any) -> bool:
    """Whether JAX, if it is imported, knows how to take it apart."""
    jax = sys.modules.get("jax")
    return jax is not None and not jax.tree_util.all_leaves([value])


def _mapped_by_jax(tree: Any, at: At, name: str) -> Any:
    tree_util = sys.modules["jax"].tree_util
    return tree_util.tree_map_with_path(lambda path, leaf: at(_below(name, joined(path)), leaf), tree)
