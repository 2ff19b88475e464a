"""The reference is judged in float64 on the CPU, whatever else the machine has."""

import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(autouse=True)
def float64():
    """JAX with float64 for the time of one test."""
    jax = pytest.importorskip("jax")
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(autouse=True, scope="module")
def programs():
    """Compiled programs are let go with their module: those of all modules are more than one process may map."""
    yield
    pytest.importorskip("jax").clear_caches()
