"""XLA on the CPU does not compile a sum over a manual mesh axis of size 1 beside an automatic axis that divides.

python reproduce.py
"""

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

x, w = jnp.arange(16.0).reshape(4, 4), jnp.ones((4, 2))
for size in (2, 1):
    devices = np.array(jax.devices())[: 2 * size].reshape(2, size)
    mesh = Mesh(devices, ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    product = jax.shard_map(
        lambda x, w: jax.lax.psum(x @ w, "tensor"),
        mesh=mesh, in_specs=(P(None, "tensor"), P("tensor")), out_specs=P(), axis_names={"tensor"},
    )  # fmt: skip
    try:
        made = np.asarray(jax.jit(product)(jax.device_put(x, NamedSharding(mesh, P("data"))), w))[:, 0].tolist()
    except jax.errors.JaxRuntimeError as refusal:
        made = str(refusal).splitlines()[0]
    print(f"data=2, tensor={size}: {made}, one device {np.asarray(x @ w)[:, 0].tolist()}")
