"""One torch rank of a world that a launcher has started, a child of the process that was launched. Run as a module."""

from __future__ import annotations

import datetime
import os
import sys

from conformance.cases.importing import take_folders
from conformance.workers.process import answer_jobs, connect, die_with_parent, importing, log_to
from conformance.workers.spot import COLLECTIVE_SECONDS, Spot, Visible, interface_to


def main(address: str, name: str, log: str, words: str) -> None:
    log_to(log)
    die_with_parent()
    spot = Spot.read(words)
    os.environ["OMP_NUM_THREADS"] = "1"
    if interface := interface_to(spot.host, spot.port):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    connection = connect(address, name)
    if not importing(connection, "torch"):
        return
    import torch
    import torch.distributed as dist

    from conformance.trace.torch_stochastic import StochasticStep
    from conformance.workers.job_handler import JobHandler
    from conformance.workers.references import References
    from conformance.workers.torch_device import BACKENDS, take
    from conformance.workers.torch_gloo import share_device
    from conformance.workers.torch_platform import TorchPlatform, to_numpy, work

    torch.set_num_threads(1)
    take_folders()
    device_type = take("real", spot.local_rank)
    timeout = datetime.timedelta(seconds=COLLECTIVE_SECONDS)
    share_device()
    store = dist.TCPStore(spot.host, spot.port, spot.world, spot.rank == 0, timeout=timeout)  # type: ignore[attr-defined, unused-ignore]
    dist.init_process_group(BACKENDS[device_type], store=store, rank=spot.rank, world_size=spot.world, timeout=timeout)
    connection.send(("ready", Visible(most=spot.world, platform=device_type).words))
    references = References("torch", to_numpy, work, StochasticStep)
    answer_jobs(connection, JobHandler(TorchPlatform(device_type), references))


if __name__ == "__main__":
    main(*sys.argv[1:])
