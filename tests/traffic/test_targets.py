"""What can be compiled for here, and why not; and what a chip's compiler says of a program that it refuses."""

from __future__ import annotations

import pytest

from conformance.targets import compiled, devices
from conformance.targets.chip import CHIPS

REFUSED = (
    "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (16.50G) exceeds "
    "available HBM (15.75G).",
    "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.50G of 15.75G hbm. Exceeded capacity by 768M.",
)


def _with(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    known = {"jax": "0.10.2", "jaxlib": "0.10.2", **versions}
    monkeypatch.setattr(devices, "_installed", lambda package: known.get(package.replace("-", "_")))
    monkeypatch.setattr(devices, "requires", lambda package: ['libtpu==0.0.42.*; extra == "tpu"'])
    devices._wanted_libtpu.cache_clear()


@pytest.mark.parametrize(
    ("installed", "count", "why"),
    [
        ({"libtpu": "0.0.42.1"}, 8, ""),
        ({"libtpu": "0.0.42"}, 1, ""),
        ({"libtpu": "0.0.421"}, 8, "libtpu 0.0.421 is not the one that jax asks for, 0.0.42.*"),
        ({"libtpu": None}, 8, "libtpu is not installed (the extra 'tpu' brings it)"),
        ({"libtpu": "0.0.42.1"}, 6, "a slice of v5e has 1, 4, 8, 16, 32, 64, 128, 256 chips, not 6"),
        ({"libtpu": None, "jax": None}, 8, "libtpu is not installed (the extra 'tpu' brings it)"),
    ],
)
def test_why_nothing_is_compiled_for_a_tpu(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str | None], count: int, why: str
) -> None:
    _with(monkeypatch, **installed)
    assert devices.why_no_target(CHIPS["v5e"], count) == why


def test_why_nothing_is_compiled_for_a_cuda_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    _with(monkeypatch, jax_cuda12_pjrt="0.10.1")
    assert devices.why_no_target(CHIPS["h100"], 6) == "jax-cuda12-pjrt 0.10.1 is not of jaxlib's version 0.10.2"
    assert devices.why_no_target(CHIPS["a100"]) == "there is no device table for a100"
    assert devices.why_no_target(None) == "no chip was named"
    of_another_kind = CHIPS["v5e"].model_copy(update={"topology": "v9"})
    assert devices.why_no_target(of_another_kind, 8) == "no slices are known of the TPU 'v9', but of v5e"


@pytest.mark.parametrize("sentence", REFUSED)
def test_what_a_refused_program_needs_is_read(sentence: str) -> None:
    found = compiled._REFUSED.search(sentence)
    assert found is not None
    assert float(found[1]) * compiled._UNITS[found[2]] == 16.5 * 2**30


def test_another_failure_is_no_refusal() -> None:
    assert compiled._REFUSED.search("INTERNAL: Mosaic failed to compile TPU kernel (16.50G)") is None
