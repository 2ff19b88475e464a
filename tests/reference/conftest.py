"""The reference is judged in float64 on the CPU, whatever else the machine has."""

import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(autouse=True)
def float64():
    """JAX with float64 for the time of one test, which compiles for longer than it runs."""
    jax = pytest.importorskip("jax")
    wanted = ("jax_enable_x64", "jax_disable_most_optimizations")
    before = {name: jax.config.read(name) for name in wanted}
    for name in wanted:
        jax.config.update(name, True)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.fixture(autouse=True, scope="module")
def programs():
    """Compiled programs are let go with their module: those of all modules are more than one process may map."""
    yield
    pytest.importorskip("jax").clear_caches()
