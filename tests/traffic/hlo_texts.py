"""HLO texts made by hand: each is small, and has what the reader must get right."""

LOOP = """HloModule jit_step, entry_computation_layout={(f32[4,8]{1,0})->f32[4,8]{1,0}}

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%body (state: (s32[], bf16[4,8], f32[4,8])) -> (s32[], bf16[4,8], f32[4,8]) {
  %state = (s32[], bf16[4,8]{1,0}, f32[4,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %w = bf16[4,8]{1,0} get-tuple-element(%state), index=1
  %g = f32[4,8]{1,0} get-tuple-element(%state), index=2
  %whole = bf16[8,8]{1,0} all-gather(%w), channel_id=1, replica_groups=GATHERED, dimensions={0}, use_global_device_ids=true, metadata={op_name="jit(step)/jvp()/while/body/dot_general"}
  %total = f32[4,8]{1,0} all-reduce(%g), channel_id=2, replica_groups=SUMMED, use_global_device_ids=true, to_apply=%add, metadata={op_name="jit(step)/transpose(jvp())/while/body/dot_general"}
  %one = s32[] constant(1)
  %next = s32[] add(%i, %one)
  ROOT %out = (s32[], bf16[4,8]{1,0}, f32[4,8]{1,0}) tuple(%next, %w, %total)
}

%condition (state.1: (s32[], bf16[4,8], f32[4,8])) -> pred[] {
  %state.1 = (s32[], bf16[4,8]{1,0}, f32[4,8]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[] constant(12)
  ROOT %lt = pred[] compare(%i.1, %limit), direction=LT
}

ENTRY %main (w.1: bf16[4,8], g.1: f32[4,8]) -> (f32[4,8]) {
  %w.1 = bf16[4,8]{1,0} parameter(0), metadata={op_name="state[\\'parameters\\'][\\'head.weight\\']"}
  %g.1 = f32[4,8]{1,0} parameter(1), metadata={op_name="batch[\\'inputs\\']"}
  %zero = s32[] constant(0)
  %begin = (s32[], bf16[4,8]{1,0}, f32[4,8]{1,0}) tuple(%zero, %w.1, %g.1)
  %loop = (s32[], bf16[4,8]{1,0}, f32[4,8]{1,0}) while(%begin), condition=%condition, body=%bodyANNOTATION
  %summed = f32[4,8]{1,0} get-tuple-element(%loop), index=2
  ROOT %result = (f32[4,8]{1,0}) tuple(%summed)
}
"""  # noqa: E501


def loop(gathered: str, summed: str, annotation: str = "") -> str:
    """A loop of 12 turns over an all-gather of a parameter and an all-reduce of a result, whose groups are given."""
    return LOOP.replace("GATHERED", gathered).replace("SUMMED", summed).replace("ANNOTATION", annotation)


ASYNCHRONOUS = """HloModule jit_step

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%wrapped (p: bf16[2,6]) -> bf16[2,6] {
  %p = bf16[2,6]{1,0} parameter(0)
  ROOT %swapped = bf16[2,6]{1,0} all-to-all(%p), channel_id=5, replica_groups={{0,1},{2,3}}, dimensions={0}
}

ENTRY %main (a: bf16[4,8], b: f32[3]) -> bf16[8,8] {
  %a = bf16[4,8]{1,0} parameter(0)
  %b = f32[3]{0} parameter(1)
  %pair = ((bf16[4,8]{1,0}, f32[3]{0}), (bf16[8,8]{1,0}, /*index=1*/f32[6]{0})) all-gather-start(%a, %b), channel_id=1, replica_groups=[2,2]<=[4], dimensions={0}, use_global_device_ids=true
  %done = (bf16[8,8]{1,0}, f32[6]{0}) all-gather-done(%pair)
  %reduced = f32[3]{0} all-reduce-start(%b), channel_id=2, replica_groups={}, to_apply=%add
  %finished = f32[3]{0} all-reduce-done(%reduced)
  %scattered = ((f32[4]{0}), f32[2]{0}) reduce-scatter-start(%four), channel_id=3, replica_groups=[2,2]<=[4], dimensions={0}, to_apply=%add
  %four = f32[4]{0} constant({1, 2, 3, 4})
  %block = f32[2]{0} reduce-scatter-done(%scattered)
  %moved = (bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[], u32[]) collective-permute-start(%a), channel_id=4, source_target_pairs={{0,1},{1,2},{2,3},{3,3}}
  %arrived = bf16[4,8]{1,0} collective-permute-done(%moved)
  %six = bf16[2,6]{1,0} constant({...})
  %begun = ((bf16[2,6]{1,0}), bf16[2,6]{1,0}) async-start(%six), calls=%wrapped
  %ended = bf16[2,6]{1,0} async-done(%begun), calls=%wrapped
  ROOT %whole = bf16[8,8]{1,0} get-tuple-element(%done), index=0
}
"""  # noqa: E501

SLICED = """HloModule jit_step

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

ENTRY %main (a: f32[8,4]) -> f32[4,4] {
  %a = f32[8,4]{1,0} parameter(0)
  %places = s32[2]{0} constant({0, 4})
  %device = u32[] partition-id()
  %place = s32[1]{0} dynamic-slice(%places, %device), dynamic_slice_sizes={1}
  %start = s32[] reshape(%place)
  %zero = s32[] constant(0)
  %total = f32[8,4]{1,0} all-reduce(%a), channel_id=1, replica_groups={{0,1}}, to_apply=%add
  ROOT %own = f32[4,4]{1,0} dynamic-slice(%total, INDEX, %zero), dynamic_slice_sizes={4,4}
}
"""


def sliced(index: str) -> str:
    """An all-reduce and a slice of half of it, at `%start`, which depends on the device, or at `%zero`."""
    return SLICED.replace("INDEX", index)


BRANCHES = """HloModule jit_step

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

%small (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  ROOT %s = f32[2]{0} all-reduce(%p), replica_groups={{0,1}}, to_apply=%add
}

%large (q: f32[64]) -> f32[2] {
  %q = f32[64]{0} parameter(0)
  %l = f32[64]{0} all-reduce(%q), replica_groups={{0,1}}, to_apply=%add
  ROOT %part = f32[2]{0} slice(%l), slice={[0:2]}
}

ENTRY %main (which: s32[], a: f32[2], b: f32[64]) -> f32[2] {
  %which = s32[] parameter(0)
  %a = f32[2]{0} parameter(1)
  %b = f32[64]{0} parameter(2)
  ROOT %chosen = f32[2]{0} conditional(%which, %a, %b), branch_computations={%small, %large}
}
"""

SUMMED = """HloModule jit_step

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  %y = f32[] parameter(1)
  ROOT %sum = f32[] add(%x, %y)
}

ENTRY %main (a: f32[1,8]) -> (f32[8]) {
  %a = f32[1,8]{1,0} parameter(0)
  %zero = f32[] constant(0)
  %total = f32[1,8]{1,0} all-reduce(%a), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  %own = f32[8]{0} reduce(%total, %zero), dimensions={0}, to_apply=%add
  ROOT %result = (f32[8]{0}) tuple(%own)
}
"""


def summed(shape: str) -> str:
    """An all-reduce of an array of two dims and this shape, and a sum over the first of them."""
    width = shape.partition(",")[2]
    return SUMMED.replace("[1,8]", f"[{shape}]").replace("[8]", f"[{width}]")


_GATHER = (
    "all-gather(%p), channel_id=4, replica_groups={{0,1,2,3}}, dimensions={0}, "
    'backend_config={"async_collective_fusion_config":{"flag_start":"2","flag_end":"8"}}'
)
IN_PIECES = f"""HloModule jit_step

%starting (p: bf16[2,6]) -> (bf16[2,6], bf16[8,6], u32[]) {{
  %p = bf16[2,6]{{1,0:T(8,128)(2,1)}} parameter(0)
  %start = bf16[8,6]{{1,0:T(8,128)(2,1)}} {_GATHER}
  ROOT %begun = (bf16[2,6], bf16[8,6], u32[]{{:S(2)}}) custom-call(%start), custom_call_target="AsyncCollectiveStart"
}}

%meanwhile (p: bf16[2,6], flag: u32[], a: f32[3]) -> (f32[3], bf16[8,6]) {{
  %p = bf16[2,6]{{1,0}} parameter(0)
  %flag = u32[]{{:S(2)}} parameter(1)
  %a = f32[3]{{0}} parameter(2)
  %twice = f32[3]{{0}} add(%a, %a)
  %on = bf16[8,6]{{1,0}} {_GATHER}
  ROOT %both = (f32[3], bf16[8,6]) tuple(%twice, %on)
}}

%ending (p: bf16[2,6], flag: u32[]) -> bf16[8,6] {{
  %p = bf16[2,6]{{1,0}} parameter(0)
  %flag = u32[]{{:S(2)}} parameter(1)
  %last = bf16[8,6]{{1,0}} {_GATHER}
  ROOT %ended = bf16[8,6]{{1,0}} custom-call(%p, %last, %flag), custom_call_target="AsyncCollectiveDone"
}}

ENTRY %main (own: bf16[2,6], a: f32[3]) -> (f32[3], bf16[8,6]) {{
  %own = bf16[2,6]{{1,0}} parameter(0)
  %a = f32[3]{{0}} parameter(1)
  %started = (bf16[2,6], bf16[8,6], u32[]) fusion(%own), kind=kCustom, calls=%starting
  %flag = u32[] get-tuple-element(%started), index=2
  %computed = (f32[3], bf16[8,6]) fusion(%own, %flag, %a), kind=kOutput, calls=%meanwhile
  %twice = f32[3]{{0}} get-tuple-element(%computed), index=0
  %whole = bf16[8,6]{{1,0}} fusion(%own, %flag), kind=kCustom, calls=%ending
  ROOT %result = (f32[3], bf16[8,6]) tuple(%twice, %whole)
}}
"""
