"""The JAX worker: a process with N host devices, float64 on. Run as a module, before anything imports JAX."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version

from conformance.cases.importing import take_folders
from conformance.workers.process import answer_jobs, connect, die_with_parent, importing, log_to

FLAGS = (
    # Programs here are tiny and run a few times: compile time is all that counts, so LLVM need not optimise.
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
    # Device threads that wait for each other: XLA would end the process after 40 s, which a busy machine may take.
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=3600",
    "--xla_cpu_collective_call_terminate_timeout_seconds=7200",
    "--xla_cpu_collective_timeout_seconds=7200",
)
OLD_FLAGS = ("--xla_cpu_use_fusion_emitters=false",)  # halves compile time; XLA ends a process over a flag it has lost


def main(address: str, name: str, log: str, devices: str) -> None:
    log_to(log)
    die_with_parent()
    given = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{' '.join(flags())} {given} --xla_force_host_platform_device_count={devices}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    connection = connect(address, name)
    if not importing(connection, "jax"):
        return
    import jax

    jax.config.update("jax_enable_x64", True)
    from conformance.trace.jax_stochastic import StochasticStep
    from conformance.workers.compiled import keep_compiled
    from conformance.workers.jax_platform import JaxPlatform, to_numpy, work
    from conformance.workers.job_handler import JobHandler
    from conformance.workers.references import References

    take_folders()
    keep_compiled()
    connection.send(("ready", ""))
    answer_jobs(connection, JobHandler(JaxPlatform(), References("jax", to_numpy, work, StochasticStep)))


def flags() -> tuple[str, ...]:
    """Looked up without importing JAX, which would read them."""
    try:
        major, minor, *_ = (int(part) for part in version("jaxlib").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return FLAGS
    return FLAGS + OLD_FLAGS if (major, minor) < (0, 11) else FLAGS


if __name__ == "__main__":
    main(*sys.argv[1:])
