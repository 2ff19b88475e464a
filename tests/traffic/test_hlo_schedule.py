"""Collectives in the order of a scheduled program: what stands between start and done, in a text of our own."""

from __future__ import annotations

from conformance.traffic.hlo_module import read_module
from conformance.traffic.hlo_schedule import computing, launches

TEXT = """HloModule step, is_scheduled=true

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add = f32[] add(%a, %b)
}

%scattered (p: f32[64]) -> f32[8] {
  %p = f32[64]{0} parameter(0)
  ROOT %scatter = f32[8]{0} reduce-scatter(%p), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}, to_apply=%sum
}

%body (q: f32[64]) -> f32[64] {
  %q = f32[64]{0} parameter(0)
  ROOT %twice = f32[64]{0} add(%q, %q)
}

ENTRY %main (x: f32[64], y: f32[16]) -> f32[64] {
  %x = f32[64]{0} parameter(0)
  %y = f32[16]{0} parameter(1)
  %first = f32[64]{0} fusion(%x), kind=kLoop, calls=%body
  %begun = (f32[64]{0}, f32[16]{0}) all-reduce-start(%first, %y), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%sum
  %second = f32[64]{0} fusion(%x), kind=kLoop, calls=%body
  %other = ((f32[64]{0}), f32[8]{0}) async-start(%second), calls=%scattered
  %third = f32[64]{0} custom-call(%x, %x), custom_call_target="__cublas$gemm"
  %ended = (f32[64]{0}, f32[16]{0}) all-reduce-done(%begun)
  %scattered.1 = f32[8]{0} async-done(%other)
  %alone = f32[16]{0} all-reduce(%y), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%sum
  ROOT %last = f32[64]{0} fusion(%third), kind=kLoop, calls=%body
}
"""


def test_pairs_know_what_is_computed_between_them():
    pairs = {(each.kind, each.bytes): each for each in launches(read_module(TEXT))}
    assert len(pairs) == 3
    both = pairs["all-reduce", 4 * (64 + 16)]
    assert (both.operands, both.between) == (2, 2), "the second fusion and the product, not the first or the last"
    assert pairs["reduce-scatter", 4 * 64].between == 1, "the product alone"
    assert pairs["all-reduce", 4 * 16].between == 0, "it blocks"


def test_the_length_of_a_schedule_is_what_is_computed():
    assert computing(read_module(TEXT)) == 4


def test_a_pair_that_hides_nothing_is_said_so():
    """The same program with its done right behind its start."""
    done = "  %ended = (f32[64]{0}, f32[16]{0}) all-reduce-done(%begun)\n"
    start = TEXT.index("  %second")
    moved = TEXT.replace(done, "")
    moved = moved[:start] + done + moved[start:]
    [both] = [each for each in launches(read_module(moved)) if each.operands == 2]
    assert both.between == 0
