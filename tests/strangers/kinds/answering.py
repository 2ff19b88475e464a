"""How every script of kinds ends: what it is asked for is judged, kind by kind, and each answer printed on a line."""

import json
import sys

import conformance

MARK = "\x1e"  # before an answer: whatever a candidate prints itself has none


def answer_for(kinds, **asked):
    """The kinds that the command line names, or all; `asked` is what they ask unless they say otherwise."""
    for kind in sys.argv[1:] or kinds:
        try:
            judgement = conformance.check(**(asked | kinds[kind]))
            answer = {"kind": kind, "verdict": judgement.result.verdict, "text": str(judgement)}
        except ValueError as refusal:
            answer = {"kind": kind, "verdict": "refused", "text": str(refusal)}
        print(f"{MARK}{json.dumps(answer)}", flush=True)
