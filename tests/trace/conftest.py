"""Eight emulated devices and float64, whichever tests ran before these in the same process."""

import os

import pytest

from conformance.workers.jax_worker import flags

os.environ.setdefault("XLA_FLAGS", f"--xla_force_host_platform_device_count=8 {' '.join(flags())}")
os.environ.setdefault("JAX_PLATFORMS", "cpu")


@pytest.fixture(scope="session", autouse=True)
def float64():
    pytest.importorskip("jax").config.update("jax_enable_x64", True)
