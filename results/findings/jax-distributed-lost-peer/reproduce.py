"""Two JAX processes on the CPU, sums over both by gloo. One is killed; how does the other one end?

python reproduce.py [HEARTBEAT_SECONDS]
"""

import multiprocessing
import os
import signal
import socket
import sys
import time
from multiprocessing.synchronize import Event


def program(rank: int, port: int, heartbeat: int, summed: Event, caught: Event) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ.pop("XLA_FLAGS", None)  # one device in each process
    import jax
    import jax.numpy as jnp
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank, heartbeat_timeout_seconds=heartbeat)
    mesh = Mesh(jax.devices(), ("data",))
    own = jnp.full((1,), rank + 1.0)
    both = jax.make_array_from_single_device_arrays(
        (2,), NamedSharding(mesh, PartitionSpec("data")), [jax.device_put(own, jax.local_devices()[0])]
    )
    total = jax.jit(jnp.sum, out_shardings=NamedSharding(mesh, PartitionSpec()))
    print(f"rank {rank}: the sum is {float(total(both))}", flush=True)
    summed.set()
    if rank == 1:
        time.sleep(600)
    time.sleep(2)
    try:
        for _ in range(600):  # the peer is gone by now
            print(f"rank 0: {float(total(both))}", flush=True)
            time.sleep(1)
    except Exception as error:
        caught.set()
        print(f"rank 0 catches {type(error).__name__}: {str(error).splitlines()[0][:200]}", flush=True)
        time.sleep(600)  # it goes on: nothing is left to do with the peer


def main(heartbeat: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    summed, caught = context.Event(), context.Event()
    ranks = [context.Process(target=program, args=(rank, port, heartbeat, summed, caught)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    if not summed.wait(timeout=100):
        for process in ranks:
            process.kill()
        sys.exit("The first sum did not come out.")
    time.sleep(1)
    ranks[1].kill()
    started = time.monotonic()
    ranks[0].join(timeout=300)
    seconds = time.monotonic() - started
    code = ranks[0].exitcode
    ended = "goes on" if code is None else signal.Signals(-code).name if code < 0 else f"exit status {code}"
    print(f"{seconds:.0f} s after rank 1 is gone, rank 0: {ended}; it caught an error before: {caught.is_set()}")
    ranks[0].kill()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
