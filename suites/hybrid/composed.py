"""What all compositions have in common. Framework-neutral."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

Conforming: Any = object  # mixins of several suites, combined by multiple inheritance


class Composed(Conforming):
    """Communication is declared and checked in the suites of the parts; that of the composition is not declared."""

    def declare(self):
        return replace(super().declare(), traffic=None)
