"""Every peer held to one device: `tox run -e peers`. What is not installed, or refuses, says so in README.md."""

import perceptron
import pytest

import conformance

JAX = ("flax_nnx", "equinox_filter_shard")
TORCH = (
    "torch_ddp",
    "torch_parallelize_fsdp2",
    "torch_pipelined",
    "huggingface_tp_plan",
    "megatron_core",
    "deepspeed_zero",
)


@pytest.mark.parametrize("name", JAX + TORCH)
def test_peer(name: str) -> None:
    peer = pytest.importorskip(name)
    judgement = conformance.check(
        reference=perceptron.in_jax if name in JAX else perceptron.in_torch,
        candidate=peer.candidate, parameters=perceptron.PARAMETERS, batch=perceptron.BATCH, mesh=peer.MESH,
        dtype=getattr(peer, "DTYPE", "float64"),
    )  # fmt: skip
    print(judgement)
    assert judgement.passed, str(judgement)
