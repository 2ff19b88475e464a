"""XLA on the CPU ends the process over a bfloat16 sum in a program that is manual over one of two mesh axes.

python reproduce.py float32|float16|bfloat16
"""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

dtype = sys.argv[1]
mesh = Mesh(np.array(jax.devices()).reshape(2, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
product = jax.shard_map(
    lambda x, w: jax.lax.psum(x @ w, "tensor"),
    mesh=mesh, in_specs=(P(None, "tensor"), P("tensor")), out_specs=P(), axis_names={"tensor"},
)  # fmt: skip
x, w = jnp.arange(16.0, dtype=dtype).reshape(4, 4), jnp.ones((4, 2), dtype)
expected = np.asarray(x @ w, np.float32)[:, 0]
placed = jax.device_put(x, NamedSharding(mesh, P("data")))
print(dtype, "mesh", np.asarray(jax.jit(product)(placed, w), np.float32)[:, 0], "one device", expected)
