"""The JAX worker: a process with N host devices, float64 on. Run as a module, before anything imports JAX."""

from __future__ import annotations

import os
import sys
from typing import Any

from conformance.workers.jobs import CaseJob, MeasureJob, SitesJob, TruthJob
from conformance.workers.process import answer_jobs, connect, die_with_connection, ignore_interrupts, log_to

# Programs here are tiny and run a few times: compile time is all that counts, so LLVM need not optimise.
FAST_COMPILE = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
# The main process watches the clock and knows the stacks; XLA by itself would abort a deadlock after 40 seconds.
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=86400 --xla_cpu_collective_timeout_seconds=86400"


def main(address: str, name: str, log: str, devices: str) -> None:
    log_to(log)
    ignore_interrupts()
    flags = f"--xla_force_host_platform_device_count={devices} {FAST_COMPILE} {PATIENT}"
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    connection = connect(address, name)
    die_with_connection(connection)
    try:
        import jax
    except ImportError as missing:
        connection.send(("missing", f"jax cannot be imported: {missing}."))
        return
    jax.config.update("jax_enable_x64", True)
    connection.send(("ready", ""))
    answer_jobs(connection, _Answers())


class _Answers:
    def __init__(self) -> None:
        from conformance.workers.jax_platform import JaxPlatform, products, to_numpy
        from conformance.workers.truth import References

        self.platform, self.references = JaxPlatform(), References("jax", to_numpy, products)

    def __call__(self, job: Any) -> Any:
        from conformance.workers.execute import Execution

        if isinstance(job, TruthJob):
            return self.references.truth(job)
        if isinstance(job, SitesJob):
            return Execution(job, self.platform).sites()
        if isinstance(job, MeasureJob):
            return Execution(job, self.platform).measured()
        assert isinstance(job, CaseJob)
        return Execution(job, self.platform).evidence()


if __name__ == "__main__":
    main(*sys.argv[1:])
