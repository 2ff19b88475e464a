"""The data flow of a traced step, and the narrow arithmetic in it: what made a gradient, and what a statistic is.

Law: what a product, or a sum over elements, has made is a local gradient, in whatever dtype the model computes. From
the reported gradient back to there, every sum over devices and over slices of the batch is one of gradients. Whatever
lies behind the product are activations, whose own collectives run in the dtype of computation by right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from conformance.evidence.arithmetic import GRADIENTS, REDUCTION, STATISTICS, Operation, distinct, is_narrow

MOVE, ADD, COLLECTIVE, REDUCE, EXP, LOG, ROOT, OTHER = (
    "move", "add", "collective", "reduce", "exp", "log", "root", "other",
)  # fmt: skip
LONGEST = 24  # operations between the parts of one statistic
EXCHANGES = ("permute", "all_to_all")


@dataclass(eq=False, kw_only=True, slots=True)
class Node:
    """The result of one operation.

    kind       what it does with its sources: moves, converts or scales them (MOVE), adds two of them, sums one over
               devices (COLLECTIVE) or over its elements (REDUCE), or makes something else of them
    uniform    all elements are equal
    derived    autograd had part in it
    operands   all that it depends on, `sources` among them
    exact      it is made of whole numbers and masks alone, which narrow dtypes hold
    drawn      it is made of random bits alone
    rounds     a narrower dtype would have changed it, and did if its own is narrower
    backward   the number of the differentiation that it belongs to, -1 outside of any; None outside where several
               cannot be told apart
    """

    kind: str
    name: str
    dtype: str
    sources: list[Node] = field(default_factory=list)
    axes: tuple[str, ...] = ()
    sums: bool = False
    uniform: bool = False
    derived: bool = False
    backward: int | None = None
    place: str = ""
    operands: list[Node] = field(default_factory=list)
    exact: bool = False
    drawn: bool = False
    rounds: bool = False


def narrow_arithmetic(nodes: list[Node], observed: Mapping[str, Node]) -> tuple[Operation, ...]:
    """All narrow arithmetic of a step: `nodes` are those of its operations, `observed` those of its observations."""
    operations = list(statistics(nodes))
    for name, node in observed.items():
        if name.startswith("gradients/"):
            operations += gradient_sums(name, node)
        elif name == "loss":
            operations += loss_sums(name, node)
    return distinct(operations)


def gradient_sums(tensor: str, root: Node) -> Iterator[Operation]:
    """Narrow sums over devices and slices that made a gradient, and narrow dtypes in which it lay between two sums."""
    pending: list[tuple[Node, Node | None, bool]] = [(root, None, False)]
    seen: set[tuple[int, bool, bool]] = set()
    while pending:
        node, kept, narrowed = pending.pop()  # kept: where the sum that comes next is rounded
        key = (id(node), kept is None, narrowed)
        if key in seen or node.kind not in (MOVE, ADD, COLLECTIVE, REDUCE):
            continue
        seen.add(key)
        role, axes = _sum(node)
        if role is not None:
            if is_narrow(node.dtype):
                yield _operation(role, tensor, node, axes)
            elif kept is not None:
                yield _operation(GRADIENTS, tensor, kept)
            kept = None
        elif node.kind == REDUCE:
            continue
        elif kept is None and is_narrow(node.dtype) and not narrowed:
            kept = node
        pending += [(source, kept, is_narrow(node.dtype)) for source in node.sources]


def loss_sums(tensor: str, root: Node) -> Iterator[Operation]:
    """Narrow sums that made a loss, over elements too."""
    pending, seen = [root], set()
    while pending:
        node = pending.pop()
        if id(node) in seen or node.kind not in (MOVE, ADD, COLLECTIVE, REDUCE):
            continue
        seen.add(id(node))
        if (node.kind == REDUCE or node.sums) and is_narrow(node.dtype):
            yield _operation(STATISTICS, tensor, node, node.axes)
        pending += node.sources


def statistics(nodes: list[Node]) -> Iterator[Operation]:
    """Narrow parts of a norm (the root of a mean), of a softmax (a sum of exponentials) and of its logarithm."""
    for node in nodes:
        if node.kind in (ROOT, LOG):
            for part in _down_to_sum(node):
                if is_narrow(part.dtype):
                    yield _operation(STATISTICS, "", part, part.axes)
                    break
        elif node.kind == REDUCE:
            for part in _exponential(node):
                if is_narrow(part.dtype):
                    yield _operation(STATISTICS, "", part)


def _operation(role: str, tensor: str, node: Node, axes: tuple[str, ...] = ()) -> Operation:
    return Operation(role=role, tensor=tensor, operation=node.name, dtype=node.dtype, axes=axes, place=node.place)


def _sum(node: Node) -> tuple[str | None, tuple[str, ...]]:
    """Whether a node sums gradients, over what: devices, also where their parts are exchanged first, or slices."""
    if node.kind == COLLECTIVE:
        return (REDUCTION, node.axes) if node.sums else (None, ())
    # Within a differentiation it is the gradient of what was broadcast, a bias, from activations that have travelled.
    if node.kind in (ADD, REDUCE) and node.derived and node.backward in (None, -1):
        axes = _exchanged(node)
        if axes:
            return REDUCTION, axes
    if node.kind == ADD and node.backward is None:
        return GRADIENTS, ()
    # Elements too: a gradient may have come through several differentiations, those of the stages of a pipeline.
    between = node.kind == ADD or node.backward in (None, -1)
    if node.kind in (ADD, REDUCE) and between and len(_differentiations(node)) > 1:
        return GRADIENTS, ()
    return None, ()


def _exchanged(node: Node) -> tuple[str, ...]:
    """The axes over which one of the terms of a sum has just travelled."""
    pending, seen = [(source, LONGEST) for source in node.sources], set()
    while pending:
        term, left = pending.pop()
        if term.kind == COLLECTIVE and term.name in EXCHANGES:
            return term.axes
        if term.kind == MOVE and left and id(term) not in seen:
            seen.add(id(term))
            pending += [(source, left - 1) for source in term.sources]
    return ()


def _differentiations(node: Node) -> set[int | None]:
    """Those that have made the terms of a sum."""
    tasks: set[int | None] = set()
    pending, seen = [node], set()
    while pending:
        term = pending.pop()
        if id(term) in seen:
            continue
        seen.add(id(term))
        if term.kind in (MOVE, ADD, COLLECTIVE) or term is node:
            pending += term.sources
        elif term.derived:
            tasks.add(term.backward)
    return tasks


def _down_to_sum(node: Node) -> list[Node]:
    """The node and what lies between it and a sum of elements, that sum too; empty where there is none."""
    pending: list[tuple[Node, tuple[Node, ...]]] = [(node, (node,))]
    seen: set[int] = set()
    while pending:
        reached, path = pending.pop()
        for source in reached.sources:
            if source.kind == REDUCE:
                return [*path, source]
            if source.kind in (MOVE, ADD, COLLECTIVE) and len(path) < LONGEST and id(source) not in seen:
                seen.add(id(source))
                pending.append((source, (*path, source)))
    return []


def _exponential(node: Node) -> list[Node]:
    """The exponentials that a sum adds up and the sum itself; empty where it adds up something else."""
    pending, seen = [(source, LONGEST) for source in node.sources], set()
    while pending:
        term, left = pending.pop()
        if term.kind == EXP:
            return [term, node]
        if term.kind == MOVE and left and id(term) not in seen:
            seen.add(id(term))
            pending += [(source, left - 1) for source in term.sources]
    return []
