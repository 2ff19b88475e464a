"""The laws of token order: no token is lost or held twice, and the stream divides each device's own block."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.contract.placements import local_index
from suites.sequence.token_layout import CONTEXT, TokenLayout, ZigzagOrder

MESHES = ("sequence=4", "data=2,tensor=2,sequence=2", "tensor=2,sequence=3", "sequence=2,tensor=3", "tensor=4")
LENGTHS = (1, 7, 13, 16)
EACH = [(mesh, length) for mesh in MESHES for length in LENGTHS]


ORDERS = (TokenLayout, ZigzagOrder)


def _layout(mesh: str, length: int, order: type = TokenLayout) -> Any:
    names = {"token_axes": CONTEXT, "tensor_axis": "tensor", "row_axes": ("data",)}
    layout: Any = type("Layout", (order,), names)()
    layout.mesh, layout.row_length = Mesh.parse(mesh), length
    layout.contract = SimpleNamespace(model=SimpleNamespace(kind="layer"), batch_shapes={"mask": (12, length)})
    return layout


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("mesh", "length"), EACH)
def test_every_token_is_held_once(mesh: str, length: int, order: type) -> None:
    stored = _layout(mesh, length, order).token_order()
    assert sorted(stored[stored >= 0]) == list(range(length))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("mesh", "length"), EACH)
def test_the_stream_of_a_device_is_its_part_of_its_block(mesh: str, length: int, order: type) -> None:
    """Blocks are cut by sequence rank, and each block by tensor rank, in whatever order the mesh has its axes."""
    layout = _layout(mesh, length, order)
    stored = layout.stream_order().get(1, np.arange(length))
    block = layout.token_order().reshape(layout.mesh.size("sequence"), layout.mesh.size("tensor"), -1)
    for rank in range(layout.mesh.devices):
        where = layout.mesh.coordinates(rank)
        held = stored[local_index((12, len(stored)), layout.stream_placements(), layout.mesh, rank)[1]]
        assert np.array_equal(held, block[where.get("sequence", 0), where.get("tensor", 0)])


@pytest.mark.parametrize("length", [16, 24])
@pytest.mark.parametrize("size", [2, 4])
def test_zigzag_gives_every_device_equally_many_visible_keys(size: int, length: int) -> None:
    """Token s of a causal row sees s + 1 keys."""
    order = _layout(f"sequence={size}", length, ZigzagOrder).token_order()
    assert len({int((held + 1).sum()) for held in order.reshape(size, -1)}) == 1
    contiguous = _layout(f"sequence={size}", length).token_order()
    assert len({int((held + 1).sum()) for held in contiguous.reshape(size, -1)}) == size
