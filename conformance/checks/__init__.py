"""The checks, in the order in which they are applied and reported."""

from conformance.checks.census import Census
from conformance.checks.check import Check
from conformance.checks.communication import Communication
from conformance.checks.determinism import Determinism
from conformance.checks.exact import Exact
from conformance.checks.layout import Layout
from conformance.checks.logic import Logic
from conformance.checks.memory import Memory
from conformance.checks.numerics import Numerics
from conformance.checks.relations import Relations
from conformance.checks.replicas import Replicas
from conformance.checks.trajectory import Trajectory

CHECKS: tuple[Check, ...] = (
    Census(),
    Exact(),
    Logic(),
    Numerics(),
    Replicas(),
    Trajectory(),
    Layout(),
    Memory(),
    Communication(),
    Determinism(),
    Relations(),
)

__all__ = ["CHECKS", "Check"]
