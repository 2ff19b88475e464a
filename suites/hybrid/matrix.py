"""The standing matrix of hybrid parallelism."""

from __future__ import annotations

from conformance.cases import Standing

MATRIX: tuple[Standing, ...] = ()
