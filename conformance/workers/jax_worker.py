"""The JAX worker: a process with N host devices, float64 on. Run as a module, before anything imports JAX.

`single` has the host devices besides the platform that JAX chooses, whose first device computes; `real` has the devices
of that platform, in a world those of all its processes.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from conformance.cases.importing import take_folders
from conformance.workers.process import answer_jobs, connect, die_with_parent, importing, log_to
from conformance.workers.spot import HEARTBEAT_SECONDS, Spot, Visible

FLAGS = (
    # Programs here are tiny and run a few times: compile time is all that counts, so LLVM need not optimise.
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
    # Device threads that wait for each other: XLA would end the process after 40 s, which a busy machine may take.
    "--xla_cpu_collective_call_warn_stuck_timeout_seconds=3600",
    "--xla_cpu_collective_call_terminate_timeout_seconds=7200",
    "--xla_cpu_collective_timeout_seconds=7200",
)
# On one accelerator in place of a mesh: sums in a fixed order, and no search for the fastest kernel.
ONE_DEVICE = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_force_compilation_parallelism=1")
OLD_FLAGS = ("--xla_cpu_use_fusion_emitters=false",)  # halves compile time; XLA ends a process over a flag it has lost


def main(address: str, name: str, log: str, kind: str, devices: str, spot: str = "") -> None:
    log_to(log)
    die_with_parent()
    settle(kind, devices)
    connection = connect(address, name)
    if not importing(connection, "jax"):
        return
    import jax

    set_precision(kind)
    if spot:
        join(Spot.read(spot))
    from conformance.trace.jax_stochastic import StochasticStep
    from conformance.workers.compiled import keep_compiled
    from conformance.workers.jax_platform import JaxPlatform, to_numpy, work
    from conformance.workers.jax_single import JaxSinglePlatform
    from conformance.workers.job_handler import JobHandler
    from conformance.workers.references import References

    take_folders()
    if kind == "emulated":
        keep_compiled()
    connection.send(("ready", Visible(most=len(jax.devices()), platform=jax.devices()[0].platform).words))
    platform = JaxSinglePlatform() if kind == "single" else JaxPlatform()
    answer_jobs(connection, JobHandler(platform, References("jax", to_numpy, work, StochasticStep)))


def settle(kind: str, devices: str) -> None:
    """The environment in which JAX starts: so many host devices, or what the machine has and the user has set."""
    given = os.environ.get("XLA_FLAGS", "")
    chosen = os.environ.get("JAX_PLATFORMS", "")
    if kind == "emulated":
        os.environ["JAX_PLATFORMS"] = "cpu"
    elif kind == "single" and chosen and "cpu" not in chosen.split(","):
        os.environ["JAX_PLATFORMS"] = f"{chosen},cpu"
    if kind != "real":
        own = (*flags(), *(ONE_DEVICE if kind == "single" else ()))
        os.environ["XLA_FLAGS"] = f"{' '.join(own)} {given} --xla_force_host_platform_device_count={devices}"


def set_precision(kind: str) -> None:
    import jax

    jax.config.update("jax_enable_x64", True)
    if kind == "single":  # an accelerator would multiply float32 in fewer bits
        jax.config.update("jax_default_matmul_precision", "highest")


def join(spot: Spot) -> None:
    """Meet the other processes; each has the devices of its host, or one accelerator where several share a host."""
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        f"{spot.host}:{spot.port}",
        spot.world,
        spot.rank,
        local_device_ids=[spot.local_rank] if spot.local_world > 1 and has_accelerators() else None,
        initialization_timeout=60,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )


def has_accelerators() -> bool:
    """Whether JAX would choose another platform than the CPU; it is not asked, which would start it."""
    chosen = os.environ.get("JAX_PLATFORMS", "")
    return chosen != "cpu" and any(Path(f"/dev/{name}").exists() for name in ("nvidia0", "kfd"))


def flags() -> tuple[str, ...]:
    """Looked up without importing JAX, which would read them."""
    try:
        major, minor, *_ = (int(part) for part in version("jaxlib").split(".")[:2])
    except (PackageNotFoundError, ValueError):
        return FLAGS
    return FLAGS + OLD_FLAGS if (major, minor) < (0, 11) else FLAGS


if __name__ == "__main__":
    main(*sys.argv[1:])
