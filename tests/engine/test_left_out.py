"""What is left out before an operation, done besides, taken in turn, divided by one less or counted from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from conformance.contract.mesh import Mesh
from conformance.diagnosis.inside.divergence import first_divergence
from conformance.evidence.intermediates import Intermediate, Intermediates
from conformance.records.results import Cause

RNG = np.random.default_rng(0)
MESH = Mesh.parse("data=2")
OUTPUT = "outputs/y"
X, Y, W = RNG.normal(size=(4, 6)), RNG.normal(size=(4, 6)), RNG.normal(size=(6, 6))
Blocks = Mapping[int, np.ndarray]


def _rows(x: np.ndarray) -> Blocks:
    """Of the two ranks."""
    return dict(enumerate(np.split(x, 2)))


def _at(number: int, operation: str, made: Blocks | np.ndarray, *sources: int, line: int = 0) -> Intermediate:
    values = {0: made} if isinstance(made, np.ndarray) else made
    dtype = "int64" if np.asarray(values[0]).dtype.kind == "i" else "float64"
    return Intermediate(
        number=number,
        operation=operation,
        place=f"model.py:{line or number}",
        phase="forward",
        sources=sources,
        dtype=dtype,
        values={rank: block.astype(float) for rank, block in values.items()},
    )


def _causes(wide: Sequence[Intermediate], twin: Sequence[Intermediate]) -> list[Cause]:
    here, alone = (Intermediates(values=tuple(each), observed={OUTPUT: (each[-1].number,)}) for each in (wide, twin))
    return list(first_divergence(here, alone, MESH, OUTPUT))


def _best(wide: Sequence[Intermediate], twin: Sequence[Intermediate]) -> tuple[str, bool]:
    best = _causes(wide, twin)[0]
    return best.cause, best.place


def _residual(made: np.ndarray, *, bias: float = 0.0) -> list[Intermediate]:
    """`made` is what is added to the stream; one device halves what the branch makes before."""
    return [
        _at(0, "tanh", _rows(np.tanh(X))),
        _at(1, "sin", _rows(np.sin(Y))),
        _at(4, "add", _rows(np.tanh(X) + made + bias), 0, 1),
        _at(5, "exp", _rows(np.exp(np.tanh(X) + made + bias)), 4),
    ]


HALVED = [
    _at(0, "tanh", np.tanh(X)),
    _at(1, "sin", np.sin(Y)),
    _at(2, "mul", 0.5 * np.sin(Y), 1),
    _at(4, "add", np.tanh(X) + 0.5 * np.sin(Y), 0, 2, line=14),
    _at(5, "exp", np.exp(np.tanh(X) + 0.5 * np.sin(Y)), 4),
]


def test_what_one_device_does_to_an_operand_before_is_left_out() -> None:
    assert _best(_residual(np.sin(Y)), HALVED) == ("left out: mul at model.py:2", False)


def test_where_the_operand_is_what_it_should_be_nothing_is_left_out() -> None:
    wide = _residual(0.5 * np.sin(Y), bias=0.5)
    wide[1:2] = [_at(1, "sin", _rows(np.sin(Y))), _at(2, "mul", _rows(0.5 * np.sin(Y)), 1)]
    wide[3] = _at(4, "add", wide[3].values, 0, 2)
    assert [cause.place for cause in _causes(wide, HALVED)] == [True]


def test_a_term_that_is_nowhere_is_missing() -> None:
    """The gradient of gates is a sum of two: here one goes on by itself."""
    scale = np.exp(X)
    twin = [_at(0, "exp", scale), _at(1, "sin", np.sin(Y)), _at(2, "cos", np.cos(X * Y))]
    twin += [_at(3, "add_any", np.sin(Y) + np.cos(X * Y), 1, 2)]
    twin += [_at(4, "div", (np.sin(Y) + np.cos(X * Y)) / scale, 3, 0)]
    wide = [_at(0, "exp", _rows(scale)), _at(1, "sin", _rows(np.sin(Y))), _at(4, "mul", _rows(np.sin(Y) * scale), 1, 0)]
    assert _best(wide, twin) == ("a term of the sum is missing: cos at model.py:2", False)
    made_here = [*wide[:2], _at(2, "cos", _rows(np.cos(X * Y))), wide[2]]
    made_here += [_at(5, "sub", _rows(np.sin(Y) * scale - np.cos(X * Y)), 4, 2)]
    assert not any("missing" in cause.cause for cause in _causes(made_here, twin)), "it may be added in another order"


def _added(made: np.ndarray) -> list[Intermediate]:
    """A sum that goes through a product."""
    wide = [_at(0, "tanh", _rows(np.tanh(X))), _at(1, "sin", _rows(np.sin(Y))), _at(2, "add", _rows(made), 0, 1)]
    return [*wide, _at(3, "mm", _rows(made @ W), 2), _at(7, "sub", _rows(made @ W - np.sin(Y)), 3, 1)]


def test_what_is_done_to_a_value_that_one_device_takes_as_it_is_is_done_besides() -> None:
    begun, product = [_at(0, "tanh", np.tanh(X)), _at(1, "sin", np.sin(Y), line=9)], np.tanh(X) @ W
    twin = [*begun, _at(3, "mm", product, 0), _at(7, "sub", product - np.sin(Y), 3, 1)]
    assert _best(_added(np.tanh(X) + np.sin(Y)), twin) == ("done besides: add at model.py:2", False)
    other = [*begun, _at(3, "exp", np.exp(np.tanh(X)), 0), _at(7, "sub", np.exp(np.tanh(X)) - np.sin(Y), 3, 1)]
    causes = _causes(_added(np.tanh(X) + np.sin(Y)), other)
    assert not any("besides" in cause.cause for cause in causes), "one device does something else with it"


def test_what_comes_behind_is_in_another_order() -> None:
    twin = [_at(0, "tanh", np.tanh(X)), _at(1, "sin", np.sin(Y)), _at(2, "mm", np.tanh(X) @ W, 0)]
    twin += [_at(4, "add", np.tanh(X) @ W + np.sin(Y), 2, 1, line=14)]
    wide = _added(np.tanh(X) + np.sin(Y))[:4]
    words = "in another order: mm at model.py:2, which one device does before add at model.py:14, comes behind it"
    assert _best(wide, twin) == (words, False)


@pytest.mark.parametrize(("divisor", "meant"), [(5, 6), (6, 5)])
def test_a_variance_is_divided_by_another_number(divisor: int, meant: int) -> None:
    squares = np.square(X - X.mean(axis=1, keepdims=True)).sum(axis=1, keepdims=True)
    twin = [_at(0, "tanh", X), _at(2, "mean", squares / meant, 0), _at(3, "rsqrt", (squares / meant) ** -0.5, 2)]
    wide = [_at(0, "tanh", _rows(X)), _at(1, "var", _rows(squares / divisor), 0)]
    wide += [_at(3, "rsqrt", _rows((squares / divisor) ** -0.5), 1, line=13)]
    words = f"a variance is divided by {divisor} in place of {meant}: var at model.py:1"
    assert _best(wide, twin) == (words, False)
    wide[1] = _at(1, "var", _rows(squares / divisor * 1.01), 0)
    assert not any("variance" in cause.cause for cause in _causes(wide, twin)), "any other factor is none"


def test_neighbours_are_taken_where_halves_are_meant() -> None:
    first, second = np.split(X, 2, axis=1)
    twin = [_at(0, "tanh", X), _at(1, "split", first, 0), _at(2, "split", second, 0)]
    twin += [_at(3, "cat", np.concatenate([first * 2, second], axis=1), 1, 2)]
    wide = [_at(0, "tanh", _rows(X)), _at(1, "slice", _rows(X[:, 0::2]), 0, line=11)]
    wide += [_at(2, "slice", _rows(X[:, 1::2]), 0, line=12)]
    wide += [_at(3, "cat", _rows(np.concatenate([X[:, 0::2] * 2, X[:, 1::2]], axis=1)), 1, 2, line=13)]
    words = "every second element is taken, where one device takes a block: slice at model.py:11"
    assert _best(wide, twin) == (words, False)


def _counted(starts: tuple[int, int]) -> list[Cause]:
    """Ranks that take the sines of the positions that they count, of seven in all."""
    angles = np.outer(np.arange(7), np.arange(1, 4) / 3)
    own = {rank: np.arange(start, start + 4) for rank, start in enumerate(starts)}
    made = {rank: np.exp(np.sin(np.outer(each, np.arange(1, 4) / 3))) for rank, each in own.items()}
    twin = [_at(0, "add", np.arange(7)), _at(2, "exp", np.exp(np.sin(angles)), 0)]
    return _causes([_at(0, "add", own), _at(2, "exp", made, 0)], twin)


def test_ranks_that_count_from_a_wrong_start_are_named() -> None:
    best = _counted((0, 3))[0]
    words = "ranks of data count from 0 and 3, where their blocks begin at 0 and 4: add at model.py:0"
    assert (best.cause, best.axis, best.place) == (words, "data", False)


@pytest.mark.parametrize("starts", [(0, 4), (4, 0)])
def test_ranks_in_an_order_of_their_own_count_rightly(starts: tuple[int, int]) -> None:
    assert not any("count from" in cause.cause for cause in _counted(starts))


def test_a_chunk_of_positions_that_is_nobodys_is_named() -> None:
    """Two chunks on each of two ranks, an early and a late one, which is one chunk too late."""
    rates = np.arange(1, 4) / 30
    own = {0: np.r_[0:4, 16:20], 1: np.r_[4:8, 12:16]}
    wide = [_at(0, "concatenate", own, line=1), _at(1, "mul", {r: np.outer(p, rates) for r, p in own.items()}, 0)]
    wide.append(_at(2, "exp", {r: np.exp(x) for r, x in wide[1].values.items()}, 1))
    twin = [_at(0, "concatenate", np.arange(16), line=1), _at(1, "mul", np.outer(np.arange(16), rates), 0)]
    twin.append(_at(2, "exp", np.exp(twin[1].values[0]), 1))
    best = _causes(wide, twin)[0]
    words = (
        "positions 8-11 are nobody's: a rank of data has 0-3, 16-19, the next 4-7, 12-15 at concatenate at model.py:1"
    )
    assert best.cause == words
    assert (best.axis, best.place) == ("data", False)


def test_places_in_rows_of_ones_own_are_no_positions() -> None:
    """Each rank sorts its own tokens, and says by numbers of its own from where they come."""
    own = {0: np.array([2, 0, 3, 1]), 1: np.array([1, 3, 0, 2])}
    wide = [_at(0, "sort", own, line=1), _at(1, "mul", {r: 2.0 * p for r, p in own.items()}, 0)]
    twin = [_at(0, "sort", np.arange(8)[::-1], line=1), _at(1, "mul", np.arange(8.0)[::-1], 0)]
    assert not any("nobody's" in cause.cause for cause in _causes(wide, twin))


def test_chunks_that_cover_all_positions_in_another_order_are_right() -> None:
    own = {0: np.r_[0:4, 12:16], 1: np.r_[4:12]}
    rates = np.arange(1, 4) / 30
    wide = [_at(0, "concatenate", own, line=1), _at(1, "mul", {r: 2 * np.outer(p, rates) for r, p in own.items()}, 0)]
    twin = [_at(0, "concatenate", np.arange(16), line=1), _at(1, "mul", np.outer(np.arange(16), rates), 0)]
    assert not any("nobody's" in cause.cause for cause in _causes(wide, twin))


@pytest.mark.parametrize(("exponent", "said"), [(3, "raised to 3 times the power"), (1.5, "")])
def test_a_power_with_another_exponent_is_one_of_a_whole_number(exponent: float, said: str) -> None:
    """The moments of Adam are corrected by the number of updates, here by that of slices."""
    wide = [_at(0, "add", dict.fromkeys((0, 1), np.array(3)))]
    wide.append(_at(1, "pow", dict.fromkeys((0, 1), np.array(0.875**exponent)), 0))
    wide.append(_at(2, "sub", _rows(X / (1 - 0.875**exponent)), 1))
    twin = [_at(1, "pow", np.array(0.875), line=7), _at(2, "sub", X / (1 - 0.875), 1, line=8)]
    causes = [cause.cause for cause in _causes(wide, twin) if not cause.place]
    assert [cause.startswith(said) for cause in causes] == [True] * bool(said)
