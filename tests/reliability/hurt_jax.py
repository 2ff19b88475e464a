"""A conforming JAX program, injured."""

from suites.collectives.jax_manual.native import Native
from tests.reliability import injuries


class Deadlocks(injuries.Deadlocks, Native): ...


class Aborts(injuries.Aborts, Native): ...


class Raises(injuries.Raises, Native): ...


class Sleeps(injuries.Sleeps, Native): ...


class EatsMemory(injuries.EatsMemory, Native): ...


class Slow(injuries.Slow, Native): ...
