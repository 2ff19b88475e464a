"""Names of one program as another calls them, and fused tensors taken apart."""

from __future__ import annotations

import numpy as np
import pytest

from conformance.capture.names import read, renamed
from conformance.capture.pieces import Piece, _apart
from conformance.trace.torch_wrappers import plain


@pytest.mark.parametrize(
    ("name", "patterns", "others"),
    [
        ("model.layers.3.self_attn.q_proj.weight", {"model.layers.#.self_attn.q_proj.*": "layers.#.wq.*"},
         ("layers.3.wq.weight",)),
        ("layers.1.norm.weight", {"layers.#.*": "layers.#+4.*"}, ("layers.5.norm.weight",)),
        ("layers.0.qkv.weight", {"*.qkv.weight": ("*.q.weight", "*.k.weight", "*.v.weight")},
         ("layers.0.q.weight", "layers.0.k.weight", "layers.0.v.weight")),
        ("output.weight", {"layers.#.*": "layers.#+4.*"}, ("output.weight",)),
    ],
)  # fmt: skip
def test_patterns(name: str, patterns: dict, others: tuple[str, ...]) -> None:
    assert renamed(name, read(patterns)) == others


def test_a_pattern_that_cannot_be_filled_is_refused() -> None:
    with pytest.raises(ValueError, match=r"needs the same \* and #"):
        read({"layers.*.w": "w"})


def test_wrappers_are_no_part_of_a_name() -> None:
    assert plain("module._orig_mod.layers.0._checkpoint_wrapped_module.w") == "layers.0.w"


def test_a_fused_tensor_is_taken_apart_by_shares_or_by_places() -> None:
    parts = {"q": np.arange(8.0), "k": np.arange(8.0, 12), "v": np.arange(12.0, 16)}
    shapes = {name: value.shape for name, value in parts.items()}
    second = np.concatenate([value.reshape(2, -1)[1] for value in parts.values()])  # rank 1 of 2, as Megatron does
    shared = Piece(tensor="q", position=1, dtype="float64", shape=second.shape, value=second)
    halves = {piece.tensor: piece.value for piece in _apart(shared, ("q", "k", "v"), shapes)}
    assert {name: value.tolist() for name, value in halves.items()} == {"q": [4, 5, 6, 7], "k": [10, 11], "v": [14, 15]}

    whole = np.concatenate(list(parts.values()))
    placed = Piece(
        tensor="q", position=1, dtype="float64", shape=(16,), value=whole[8:], index=(np.arange(8, 16),)
    )  # contiguous halves of the fused tensor: rank 1 has all of k and v and nothing of q
    pieces = list(_apart(placed, ("q", "k", "v"), shapes))
    by_place = {piece.tensor: (piece.index[0].tolist(), piece.value.tolist()) for piece in pieces if piece.index}
    assert by_place == {"q": ([], []), "k": ([0, 1, 2, 3], [8, 9, 10, 11]), "v": ([0, 1, 2, 3], [12, 13, 14, 15])}
