"""What all compositions have in common. Framework-neutral."""

from __future__ import annotations

from dataclasses import replace

from conformance.contract.implementation import Declarations, Implementation


class Composed(Implementation):
    """Communication is declared and checked in the suites of the parts; that of the composition is not declared."""

    def declare(self) -> Declarations:
        return replace(super().declare(), traffic=None)
