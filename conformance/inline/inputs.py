"""Inputs of `conformance.check`: arrays of any library, as numpy arrays of numbers that the dtype of the case holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401 - teaches numpy the name bfloat16
import numpy as np

from conformance.contract.contract import Arrays


def parameters_in(dtype: str, given: Mapping[str, Any]) -> Arrays:
    """Parameters as float64 arrays of numbers that the dtype holds: oracle, reference and candidate start from them.

    Raises ValueError in one sentence for what is no array of finite real numbers.
    """
    return {
        name: _real(f"The parameter '{name}'", _array("parameter", name, value), dtype) for name, value in given.items()
    }


def batch_in(dtype: str, given: Mapping[str, Any]) -> Arrays:
    """A batch likewise; whole numbers and truth values stay as they are."""
    arrays = {name: _array("batch entry", name, value) for name, value in given.items()}
    return {
        name: array if array.dtype.kind in "biu" else _rounded(f"The batch entry '{name}'", array, dtype)
        for name, array in arrays.items()
    }


def buffers_in(dtype: str, given: Mapping[str, Any]) -> Arrays:
    """Buffers of a module likewise; whole numbers and truth values stay as they are."""
    arrays = {name: _array("buffer", name, value) for name, value in given.items()}
    return {
        name: array if array.dtype.kind in "biu" else _rounded(f"The buffer '{name}'", array, dtype)
        for name, array in arrays.items()
    }


def refuse_complex(are_complex: Mapping[str, bool]) -> None:
    """Outputs of a reference by name: whether they are complex. Raises ValueError in one sentence."""
    for name, is_complex in are_complex.items():
        if is_complex:
            raise ValueError(f"The reference's output '{name}' is complex: return its real and imaginary part as two.")


def _real(what: str, array: np.ndarray, dtype: str) -> np.ndarray:
    if not np.isfinite(array.astype(np.float64)).all():
        raise ValueError(f"{what} has values that are not finite: nothing can be compared with NaN.")
    return _rounded(what, array, dtype)


def _rounded(what: str, array: np.ndarray, dtype: str) -> np.ndarray:
    wide = array.astype(np.float64)
    with np.errstate(over="ignore"):
        rounded = wide.astype(np.dtype(dtype)).astype(np.float64)
    if not np.array_equal(np.isfinite(rounded), np.isfinite(wide)):
        raise ValueError(f"{what} has values too large for {dtype}: scale them down, or check in another dtype.")
    return rounded


def _array(kind: str, name: str, value: Any) -> np.ndarray:
    """An array of numpy, JAX, torch or plain numbers, copied; no framework is imported for it."""
    what = f"The {kind} '{name}'"
    if isinstance(value, Mapping):
        raise ValueError(f"{what} is a {type(value).__name__}: give a flat mapping from name to array.")
    if getattr(value, "is_meta", False):
        raise ValueError(f"{what} lies on the meta device and has no values: make the module on the CPU.")
    if callable(getattr(value, "detach", None)):
        value = value.detach().cpu()
        value = value.double() if value.is_floating_point() else value
    try:
        array = np.array(value)
    except (ValueError, TypeError):
        raise ValueError(f"{what} is a {type(value).__name__} that is no array of numbers.") from None
    if array.dtype.kind == "c":
        raise ValueError(f"{what} is complex: give its real and its imaginary part as two arrays.")
    if array.dtype.kind not in "biufV" or array.dtype.names:
        raise ValueError(f"{what} is a {type(value).__name__} that is no array of numbers.")
    return array
