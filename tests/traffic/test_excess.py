"""What is sent above a budget is said with its tensor; what lies whole without need is said with its axes."""

from types import SimpleNamespace

import numpy as np
import pytest

from conformance.contract.budget import Allowance
from conformance.contract.mesh import Mesh
from conformance.scale.excess import excess
from conformance.scale.held import by_kind, idle_axes, tensors, whole_without_need
from conformance.scale.record import Collective
from conformance.scale.roofline import bandwidth, roofline
from conformance.targets.chip import CHIPS, ChipError, chip_named

MESH = Mesh.parse("data=1,fsdp=4,tensor=8")
MIB = 2**20


def allowance(kind, axes, tensor, elements, calls=1):
    return Allowance(
        kind=kind, axes=axes, tensor=tensor, dtype="bfloat16", elements=elements, calls=calls, formula="", source=""
    )


def sent(kind, axes, tensor, payload, where="dot_general"):
    return Collective(
        level="partitioned", phase="backward", kind=kind, axes=axes, dtype="bfloat16", tensor=tensor, where=where,
        launches=1, payload_bytes=payload, wire_bytes=payload, whole=True,
    )  # fmt: skip


BUDGET = (
    allowance("all_gather", ("fsdp",), "w", 50 * MIB, calls=2),
    allowance("reduce_scatter", ("data", "fsdp"), "w", 50 * MIB),
    allowance("all_gather", ("tensor",), "", 500 * MIB),
)


def test_within_the_budget_nothing_is_said():
    """Phases are added up; an axis of size 1 carries nothing, in the budget either."""
    within = [
        sent("all_gather", ("fsdp",), "w", 100 * MIB),
        sent("all_gather", ("fsdp",), "w", 100 * MIB),
        sent("reduce_scatter", ("fsdp",), "w", 100 * MIB),
        sent("all_gather", ("tensor",), "", 1000 * MIB),
    ]
    assert excess(within, BUDGET, MESH) == ()


def test_more_of_the_same_is_said_with_its_tensor():
    [finding] = excess([sent("all_gather", ("fsdp",), "w", 300 * MIB)], BUDGET, MESH)
    assert (finding.tensor, finding.axes, finding.bytes) == ("w", ("fsdp",), 100 * MIB)
    assert finding.sentence == "all_gather over fsdp of 'w': 300 MiB in a step, the budget allows 200 MiB."


def test_another_kind_is_said_beside_what_is_allowed():
    [finding] = excess([sent("all_reduce", ("fsdp",), "w", 100 * MIB)], BUDGET, MESH)
    assert "the budget has none; it allows all_gather over fsdp and reduce_scatter over fsdp" in finding.sentence


@pytest.mark.parametrize(("permuted", "scattered", "more"), [(125, 0, 0), (125, 50, 62.5), (140, 0, 15)])
def test_a_tensor_may_be_handed_round_in_place_of_its_reduce_scatter(permuted, scattered, more):
    """In both directions, by four ranks: five blocks of 25 MiB for what is 100 MiB whole; only what is left of it."""
    moved = [
        sent("all_gather", ("fsdp",), "w", 200 * MIB),
        sent("reduce_scatter", ("fsdp",), "w", scattered * MIB),
        sent("permute", ("fsdp",), "w", permuted * MIB),
    ]
    assert sum(finding.bytes for finding in excess(moved, BUDGET, MESH)) == more * MIB


def test_activations_are_not_handed_round_for_nothing():
    [finding] = excess([sent("permute", ("tensor",), "", 100 * MIB)], BUDGET, MESH)
    assert finding.bytes == 100 * MIB


def test_activations_are_said_with_the_place_that_sends_most():
    moved = [sent("all_to_all", ("tensor",), "", 3 * MIB, "add"), sent("all_to_all", ("tensor",), "", 9 * MIB, "mul")]
    [finding] = excess(moved, BUDGET, MESH)
    assert "of activations (mul): 12.0 MiB" in finding.sentence


def test_what_is_small_is_not_listed():
    assert excess([sent("all_reduce", ("fsdp",), "w", MIB)], BUDGET, MESH) == ()


def leaf(shape, spec, dtype="float32"):
    """A shape with a sharding, without a framework."""
    parts = [1 if part is None else MESH.size(part) for part in (*spec, *[None] * (len(shape) - len(spec)))]

    def shard_shape(whole):
        return tuple(size // part for size, part in zip(whole, parts, strict=True))

    sharding = SimpleNamespace(spec=spec, shard_shape=shard_shape)
    return SimpleNamespace(shape=shape, dtype=np.dtype(dtype), sharding=sharding)


def state(slot_spec):
    parameters = {"w": leaf((1024, 4096), ("fsdp", "tensor")), "v": leaf((1024, 4096), ("fsdp", "tensor"))}
    slots = {"momentum": {"w": leaf((1024, 4096), slot_spec), "v": leaf((1024, 8192), ("fsdp", "tensor"))}}
    return {"parameters": parameters, "optimizer": slots}


def test_bytes_of_a_device_are_exact():
    held = tensors(state(("fsdp", "tensor")), {"tokens": leaf((64, 8), ("fsdp",), "int32")}, MESH)
    assert by_kind(held) == {"parameters": 2 * MIB // 2, "optimizer/momentum": 3 * MIB // 2, "batch": 16 * 8 * 4}
    assert list(whole_without_need(held, MESH)) == []


def test_a_slot_that_lies_whole_is_named_with_its_axes():
    [finding] = whole_without_need(tensors(state(()), {}, MESH), MESH)
    assert (finding.tensor, finding.axes) == ("w", ("fsdp", "tensor"))
    assert "each device holds 16.0 MiB of it where 1/32 would be 512 KiB" in finding.sentence


def test_an_axis_within_a_node_has_its_links():
    chip, mesh = CHIPS["h100"], Mesh.parse("fsdp=64,tensor=8")
    assert bandwidth(("tensor",), mesh, chip) == chip.node_bandwidth
    assert bandwidth(("fsdp",), mesh, chip) == bandwidth(("fsdp", "tensor"), mesh, chip) == chip.network_bandwidth
    moved = [sent("all_gather", ("tensor",), "", int(chip.node_bandwidth) * 2)]
    bound = roofline({"bfloat16": int(chip.flops["bfloat16"])}, moved, mesh, chip, tokens=1)
    assert (bound.compute_seconds, bound.communication_seconds, bound.step_seconds) == (1.0, {"tensor": 2.0}, 2.0)


def test_a_chip_of_a_file(tmp_path):
    path = tmp_path / "chip.json"
    path.write_text(CHIPS["a100"].model_copy(update={"name": "mine"}).model_dump_json())
    assert chip_named(str(path)).name == "mine"
    path.write_text('{"name": "mine"}')
    with pytest.raises(ChipError, match="does not describe a chip: memory_bytes: Field required"):
        chip_named(str(path))
    with pytest.raises(ChipError, match="There is no chip 'h1000': the chips are h100, h200, a100"):
        chip_named("h1000")


def test_an_axis_that_divides_nothing_is_named():
    """As a misspelt one does."""
    mesh = Mesh.parse("data=1,fsdp=4,tensor=8,fdsp=2")
    [finding] = idle_axes(tensors(state(("fsdp", "tensor")), {}, mesh), mesh)
    assert finding.axes == ("fdsp",)
    assert finding.sentence == "Nothing is divided over fdsp: its 2 devices hold and compute the same."
    assert not list(idle_axes(tensors(state(("fsdp", "tensor")), {}, MESH), MESH))
