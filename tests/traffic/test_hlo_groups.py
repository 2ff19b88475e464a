"""The ranks of a collective in every spelling; expected groups are worked out by hand or by another spelling."""

import pytest

from conformance.traffic.collective_op import UnattributedError
from conformance.traffic.hlo_groups import rank_groups, rank_pairs

BY_HAND = {
    "replica_groups={{0,1},{2,3}}": ((0, 1), (2, 3)),
    "replica_groups={{0, 2}, {1, 3}}": ((0, 2), (1, 3)),
    "replica_groups={}": ((0, 1, 2, 3),),
    "replica_groups=[2,2]<=[4]": ((0, 1), (2, 3)),
    "replica_groups=[2,2]<=[2,2]T(1,0)": ((0, 2), (1, 3)),
    "replica_groups=mesh['axis_0'=2,'axis_1'=2] {'axis_1'}": ((0, 1), (2, 3)),
    "replica_groups=mesh[axis_0=2,axis_1=2] {axis_0}": ((0, 2), (1, 3)),
    "replica_groups=@mesh<a=2,b=2> {a,b}": ((0, 1, 2, 3),),
    "replica_groups=mesh['a'=2,'b'=2,'c'=1] {'a'}": ((0, 2), (1, 3)),
    "replica_groups=@mesh<x=2,y=2>, device_ids=(3,1,0,2) {x}": ((3, 0), (1, 2)),
    "replica_groups=@mesh<x=2,y=2>, device_ids=([2,2]T(1,0)) {y}": ((0, 2), (1, 3)),
    "channel_id=1, dimensions={0}": ((0, 1, 2, 3),),
}


@pytest.mark.parametrize("spelling", BY_HAND)
def test_groups_by_hand(spelling):
    assert rank_groups(f", channel_id=7, {spelling}, use_global_device_ids=true", 4) == BY_HAND[spelling]


# A factor of an axis and the count that XLA's own documentation of the format gives for it.
EQUAL = {
    "mesh['a'=8] {'a':(1)2}": "[4,2]<=[2,4]T(1,0)",
    "mesh['a'=8] {'a':(1)4}": "[2,4]<=[4,2]T(1,0)",
    "mesh['a'=8] {'a':(2)2}": "[4,2]<=[2,2,2]T(0,2,1)",
    "mesh['a'=8] {'a':(2)4}": "[2,4]<=[8]",
    "mesh['a'=8] {'a':(4)2}": "[4,2]<=[8]",
    "mesh['a'=8] {'a':(1)2,'a':(4)2}": "[2,4]<=[2,2,2]T(1,0,2)",
    "mesh['a'=8] {'a':(4)2,'a':(1)2}": "[2,4]<=[2,2,2]T(1,2,0)",
    "mesh['a'=8] {'a'}": "[1,8]<=[8]",
}


@pytest.mark.parametrize("spelling", EQUAL)
def test_factors_of_an_axis(spelling):
    def groups(text):
        return rank_groups(f"replica_groups={text}, ", 8)

    assert groups(spelling) == groups(EQUAL[spelling])


def test_two_factored_axes():
    groups = rank_groups("replica_groups=mesh['a'=6,'b'=6] {'a':(3)2,'b':(3)2}, ", 36)
    assert groups[:4] == ((0, 1, 6, 7), (2, 3, 8, 9), (4, 5, 10, 11), (12, 13, 18, 19))


def test_a_spelling_that_is_not_known_is_an_error():
    with pytest.raises(UnattributedError, match="cannot be read from 'replica_groups=torus"):
        rank_groups("replica_groups=torus(4)", 4)
    with pytest.raises(UnattributedError, match="devices of a mesh cannot be read"):
        rank_groups("replica_groups=@mesh<x=2,y=2>, device_ids=(3,1,0) {x}", 4)


def test_pairs():
    assert rank_pairs("source_target_pairs={{0,1},{1,0},{2,2}}") == ((0, 1), (1, 0), (2, 2))
    with pytest.raises(UnattributedError, match="pairs of a permutation"):
        rank_pairs("channel_id=1")
