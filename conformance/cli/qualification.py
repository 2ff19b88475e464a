"""What the commands of `shardproof qualify` do and print."""

from __future__ import annotations

import json
import random
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from conformance.cases.case import DEVICES, Case
from conformance.cases.selection import Selection, select
from conformance.cases.usage import UsageError, choose
from conformance.cli.run import How
from conformance.cli.run import run as run_command
from conformance.contract.implementation import FRAMEWORKS
from conformance.qualify.must_pass import PROFILE, REHEARSAL, must_pass
from conformance.qualify.pack import pack
from conformance.qualify.package import Claim, Contents
from conformance.qualify.replay import replay
from conformance.qualify.statement import spoken, statement
from conformance.qualify.system import devices as seen_devices
from conformance.qualify.tree import tree
from conformance.qualify.verify import of_flags, verify
from conformance.qualify.waivers import read_waivers
from conformance.records import environment
from conformance.records.formatting import count
from conformance.records.recorder import read
from conformance.records.results import CaseResult


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What `qualify run` is asked for; `wanted` has suites, framework and devices."""

    wanted: Selection
    most_devices: int | None = None
    rehearse: bool = False
    workers: int | None = None
    as_json: bool = False


def qualify(asked: Asked, output: Path | None) -> int:
    """Start a run; refused where nobody could tell afterwards which code ran."""
    wanted = replace(asked.wanted, profile=REHEARSAL if asked.rehearse else PROFILE)
    select(wanted)  # refuses what is asked wrongly, and devices that are not here, before anything is looked at
    how = _how(asked, wanted)
    return run_command(wanted, how, output=output, resume=None, choose=_choose(how.facts["most_devices"]))


def go_on(directory: Path, asked: Asked, output: Path | None) -> int:
    """Go on with an earlier run: its suites, framework, devices and profile."""
    if asked.wanted != Selection(devices="real") or asked.most_devices or asked.rehearse or output:
        raise UsageError("--resume goes on with what was asked for: leave out what else selects cases or a folder.")
    earlier = read(directory).run
    if earlier.profile not in (PROFILE, REHEARSAL) or "accelerators" not in earlier.machine:
        raise UsageError(f"'{directory}' is no qualification: start one with `shardproof qualify run`.")
    most, kind = earlier.machine.get("most_devices"), earlier.devices
    again = replace(asked, most_devices=most, rehearse=earlier.profile == REHEARSAL)
    how = _how(again, Selection(devices=kind, framework=earlier.selection.get("framework"), profile=earlier.profile))
    return run_command(Selection(), how, output=None, resume=directory, choose=_choose(most))


def _choose(most_devices: int | None) -> Any:
    return partial(must_pass, most_devices=most_devices)


def _how(asked: Asked, wanted: Selection) -> How:
    """Refuses what nobody could pack afterwards."""
    if changed := next(of_flags(environment.flags()), ""):
        raise UsageError(f"{changed} No package is made of such a run: start it without.")
    state = tree()
    if state.complaint and wanted.profile == PROFILE and wanted.devices == "real":
        raise UsageError(state.complaint)
    seen, most = seen_devices([wanted.framework] if wanted.framework else FRAMEWORKS), asked.most_devices
    if wanted.devices == "real" and most is None:
        most = max((accelerator["count"] for accelerator in seen), default=None)
    facts = {
        "devices": wanted.devices,
        "most_devices": most,
        "commit": state.commit,
        "tree": state.complaint,
        "accelerators": seen,
    }
    return How(workers=asked.workers, as_json=asked.as_json, figures=True, facts=facts)


def packed(directory: Path, output: Path, claim: dict[str, str], waivers: Path | None, *, as_json: bool) -> int:
    try:
        named = Claim.model_validate(claim)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False)[0]
        raise UsageError(f"--{first['loc'][0]}: {first['msg'].lower()}.") from None
    contents = pack(directory, output, named, read_waivers(_bytes(waivers), str(waivers)) if waivers else ())
    _show(contents, as_json, f"{output}\n{spoken(contents)}")
    return 0


def verified(package: Path, *, as_json: bool) -> int:
    contents = verify(package)
    _show(contents, as_json, f"Every verdict follows from its figures. {spoken(contents)}")
    return 0


def _show(contents: Contents, as_json: bool, said: str) -> None:
    print(json.dumps(statement(contents)) if as_json else said)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as wrong:
        raise UsageError(f"Cannot read '{path}': {wrong.strerror}.") from None


def replayed(package: Path, sample: int, devices: str, seed: int | None, *, as_json: bool) -> int:
    if sample < 1:
        raise UsageError(f"A sample of {sample} shows nothing: give 1 or more.")
    choose("kind of devices", devices, DEVICES)
    contents, seed = verify(package), secrets.randbelow(2**31) if seed is None else seed
    rows = replay(contents, sample, devices, _run, random.Random(seed))
    if as_json:
        print(json.dumps({"seed": seed, "replayed": [asdict(row) for row in rows]}))
    else:
        for row in rows:
            print(f"{row.case}, and with seed {row.fresh_seed}: {count(row.compared, 'figure')} compared")
            print("".join(f"  {said}\n" for said in row.disagreements), end="")
        print(f"Drawn with --seed {seed}. {_sum_of(rows)}")
    return 1 if not rows or any(row.disagreements for row in rows) else 0


def _sum_of(rows: Sequence[Any]) -> str:
    wrong = sum(bool(row.disagreements) for row in rows)
    if not rows:
        return "The package has no passing case to run again."
    return f"{len(rows) - wrong} of {count(len(rows), 'case')} agree with the package."


def _run(cases: Sequence[Case]) -> list[CaseResult]:
    from conformance.runner.run import run

    results: list[CaseResult] = []
    run(cases, on_result=results.append, on_progress=lambda said: print(said, file=sys.stderr), bisect=False)
    return results
