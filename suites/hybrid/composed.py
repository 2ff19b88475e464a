"""What all compositions have in common. Framework-neutral."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

Conforming: Any = object  # parts of several suites, in front of each other


class Composed(Conforming):
    """The communication of each part is declared, and checked, in its own suite; what it comes to together is not."""

    def declare(self):
        return replace(super().declare(), traffic=None)
