"""Collectives of HLO texts: kinds, bytes, trips, phases, axes, and the tensor that each belongs to."""

import pytest
from hlo_texts import ASYNCHRONOUS, BRANCHES, IN_PIECES, loop, sliced, summed

from conformance.contract.mesh import Mesh
from conformance.scale.sent import sent
from conformance.traffic.axes import shares
from conformance.traffic.collective_op import UnattributedError
from conformance.traffic.hlo_module import read_module
from conformance.traffic.hlo_reader import collectives
from conformance.traffic.hlo_tensor import Tensors

MESH = Mesh.parse("data=2,tensor=2")


def read(text, level="partitioned", devices=4):
    return [located.what for located in collectives(read_module(text), devices, level)]


# The same groups, as different printers write them.
SPELLINGS = (
    ("{{0,2},{1,3}}", "{{0,1},{2,3}}"),
    ("[2,2]<=[2,2]T(1,0)", "[2,2]<=[4]"),
    ("mesh['axis_0'=2,'axis_1'=2] {'axis_0'}", "mesh['axis_0'=2,'axis_1'=2] {'axis_1'}"),
    ("@mesh<p=2,q=2> {p}", "@mesh<p=2,q=2> {q}"),
)


@pytest.mark.parametrize(("gathered", "summed"), SPELLINGS)
@pytest.mark.parametrize(
    "annotation", ["", ', backend_config={"known_trip_count":{"n":"12"}}', ", backend_config={known_trip_count:{n:12}}"]
)
def test_a_loop(gathered, summed, annotation):
    gather, reduce = read(loop(gathered, summed, annotation))
    assert (gather.kind, gather.dtype, gather.trips, gather.phase) == ("all_gather", "bfloat16", 12, "forward")
    assert (reduce.kind, reduce.dtype, reduce.trips, reduce.phase) == ("all_reduce", "float32", 12, "backward")
    assert gather.payload_bytes == 12 * 2 * 4 * 8 * 2
    assert gather.wire_bytes == 12 * 4 * 8 * 2
    assert reduce.payload_bytes == reduce.wire_bytes == 12 * 4 * 8 * 4  # 2 (k - 1) / k is 1 where k is 2
    assert [share.axes for share in shares(gather, MESH)] == [("data",)]
    assert [share.axes for share in shares(reduce, MESH)] == [("tensor",)]


def test_the_limit_itself_may_count():
    text = loop(*SPELLINGS[0]).replace("direction=LT", "direction=LE")
    assert {operation.trips for operation in read(text)} == {13}


def test_a_counter_may_grow_in_several_additions():
    """As that of a loop of which two turns were written out."""
    twice = "%twice = s32[] add(%one, %next)\n  ROOT %out"
    text = loop(*SPELLINGS[0]).replace("ROOT %out", twice).replace("tuple(%next, %w", "tuple(%twice, %w")
    assert {operation.trips for operation in read(text)} == {6}


@pytest.mark.parametrize("made", ["add(%i, %i)", "multiply(%i, %one)", "add(%one, %one)"])
def test_a_counter_of_which_anything_else_is_made_is_an_error(made):
    text = loop(*SPELLINGS[0]).replace("add(%i, %one)", made)
    with pytest.raises(UnattributedError, match="How often the loop loop"):
        read(text)


def test_a_collective_in_pieces_is_sent_once():
    """As a TPU's program has it: in the fusion that starts it, in one that computes meanwhile, and in the last."""
    [gather] = read(IN_PIECES, "target")
    assert (gather.kind, gather.payload_bytes, gather.trips) == ("all_gather", 4 * 2 * 6 * 2, 1)


def test_a_piece_without_a_start_is_an_error():
    with pytest.raises(UnattributedError, match="Where the collective start starts"):
        read(IN_PIECES.replace("AsyncCollectiveStart", "Another"), "target")


def test_a_loop_without_a_known_number_of_turns_is_an_error():
    text = loop(*SPELLINGS[0]).replace("direction=LT", "direction=NE")
    with pytest.raises(UnattributedError, match="How often the loop loop"):
        read(text)


def test_a_collective_belongs_to_a_tensor():
    module = read_module(loop(*SPELLINGS[0]))
    gather, reduce = collectives(module, 4, "partitioned")
    tensors = Tensors(module, ["[0]['gradients/embedding.weight']"])
    assert tensors.of_operand(gather.computation, "w") == "state['parameters']['head.weight']"
    assert tensors.of_result(reduce.computation, "total") == "[0]['gradients/embedding.weight']"
    assert tensors.of_operand(gather.computation, "next") == ""


@pytest.mark.parametrize(("batch", "tensor"), [((), "inputs"), (("inputs",), "")])
def test_what_is_a_form_of_the_batch_is_an_activation(batch, tensor):
    moved = sent(read_module(loop(*SPELLINGS[0])), MESH, "partitioned", [""], batch)
    assert {(each.kind, each.tensor) for each in moved} == {("all_gather", "head.weight"), ("all_reduce", tensor)}


@pytest.mark.parametrize(("shape", "owner"), [("1,8", "[0]['gradients/embedding.weight']"), ("2,4", "")])
def test_a_sum_over_a_dim_of_size_one_keeps_the_tensor(shape, owner):
    module = read_module(summed(shape))
    [reduce] = collectives(module, 4, "partitioned")
    tensors = Tensors(module, ["[0]['gradients/embedding.weight']"])
    assert tensors.of_result(reduce.computation, reduce.instruction.name) == owner


def test_a_broadcast_to_dims_of_size_one_keeps_the_tensor():
    """A vector is gathered in the form in which it is added to rows; one that is repeated is no form of it."""
    text = loop(*SPELLINGS[0])
    for shape, owner in (("1,4,8", "state['parameters']['head.weight']"), ("2,4,8", "")):
        added = f"  %wide = bf16[{shape}]{{2,1,0}} broadcast(%w), dimensions={{1,2}}\n  %whole ="
        module = read_module(text.replace("  %whole =", added))
        gather, _ = collectives(module, 4, "partitioned")
        assert Tensors(module, []).of_operand(gather.computation, "wide") == owner


def test_a_gradient_that_is_rounded_keeps_its_tensor():
    rounded = "f32[1,8]{1,0} reduce-precision(%total), exponent_bits=8, mantissa_bits=7"
    text = summed("1,8").replace("f32[8]{0} reduce(%total, %zero), dimensions={0}, to_apply=%add", rounded)
    module = read_module(text)
    [reduce] = collectives(module, 4, "partitioned")
    owner = Tensors(module, ["[0]['embedding.weight']"]).of_result(reduce.computation, reduce.instruction.name)
    assert "reduce-precision" in text
    assert owner == "[0]['embedding.weight']"


def test_pairs_of_start_and_done_count_once():
    operations = {operation.kind: operation for operation in read(ASYNCHRONOUS, "target")}
    assert len(operations) == len(read(ASYNCHRONOUS, "target")) == 5
    assert operations["all_gather"].dtype == "bfloat16+float32"
    assert operations["all_gather"].payload_bytes == 2 * (4 * 8 * 2 + 3 * 4)
    assert operations["all_reduce"].groups == ((0, 1, 2, 3),)
    assert operations["reduce_scatter"].payload_bytes == 16
    assert operations["all_to_all"].groups == ((0, 1), (2, 3))
    assert {operation.phase for operation in operations.values()} == {None}


def test_a_permutation_may_move_along_several_axes():
    """0 -> 1 moves along tensor, 1 -> 2 along both, 2 -> 3 along tensor, 3 -> 3 sends nothing."""
    [permute] = [operation for operation in read(ASYNCHRONOUS, "target") if operation.kind == "permute"]
    assert {share.axes: share.wire_bytes for share in shares(permute, MESH)} == {
        ("tensor",): 4 * 8 * 2,
        ("data", "tensor"): 4 * 8 * 2,
    }


def test_an_all_reduce_with_its_own_slice_is_a_reduce_scatter():
    assert [operation.kind for operation in read(sliced("%start"), devices=2)] == ["reduce_scatter"]
    assert [operation.kind for operation in read(sliced("%zero"), devices=2)] == ["all_reduce"]


def test_of_a_conditional_the_branch_with_most_bytes_counts():
    assert [operation.payload_bytes for operation in read(BRANCHES, devices=2)] == [64 * 4]


def test_what_is_not_known_is_an_error():
    with pytest.raises(UnattributedError, match="'collective-sum' of the program is not known"):
        read(BRANCHES.replace("all-reduce(%q)", "collective-sum(%q)"), devices=2)
    with pytest.raises(UnattributedError, match="element type 'f3'"):
        read(BRANCHES.replace("f32", "f3"), devices=2)
    with pytest.raises(UnattributedError, match="no entry computation"):
        read("HloModule empty")
    [operation] = read(BRANCHES, devices=2)
    with pytest.raises(UnattributedError, match="rank 1, which the mesh tensor=1 of 1 device"):
        shares(operation, Mesh.parse("tensor=1"))
