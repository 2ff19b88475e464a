"""`shardproof plan --balance`: measured costs of layers, experts or rows, given to devices; before and after."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from conformance.cases.usage import UsageError
from conformance.planner.balance import Balance, contiguous, greedy, in_order
from conformance.records.formatting import number
from conformance.report.terminal import show_table

PLACES = {"layers": "stage", "experts": "device", "rows": "replica"}


class Costs(BaseModel):
    """What `--balance` reads: seconds, tokens or anything else that is added up, one number for each part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    parts: Literal["layers", "experts", "rows"]
    costs: tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...] = Field(min_length=1)


def balance(path: Path, places: int, *, as_json: bool) -> int:
    """Layers stay in order, experts are as many on each device, rows go anywhere."""
    given = _read(path)
    if places < 1 or places > len(given.costs):
        raise UsageError(
            f"{len(given.costs)} {given.parts} cannot be balanced over {places} {PLACES[given.parts]}s: "
            f"--devices is between 1 and {len(given.costs)}."
        )
    before = in_order(given.costs, places)
    after = contiguous(given.costs, places) if given.parts == "layers" else _anywhere(given, places)
    if after.imbalance >= before.imbalance:
        after = before
    if as_json:
        print(json.dumps({"before": _plain(before), "after": _plain(after)}, indent=1))
    else:
        _show(given, before, after)
    return 0


def _anywhere(given: Costs, places: int) -> Balance:
    return greedy(given.costs, places, as_many=given.parts == "experts")


def _read(path: Path) -> Costs:
    try:
        return Costs.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"There is no file '{path}' with costs.") from None
    except (ValidationError, UnicodeDecodeError) as wrong:
        first = wrong.errors()[0]["msg"] if isinstance(wrong, ValidationError) else "it is not text"
        example = '{"parts": "experts", "costs": [3, 1, 2, 2]}'
        raise UsageError(f"'{path}' holds no costs: {first}; write them as {example}.") from None


def _show(given: Costs, before: Balance, after: Balance) -> None:
    rows = [
        [str(place), number(old), number(new), ", ".join(map(str, parts))]
        for place, (old, new, parts) in enumerate(zip(before.loads, after.loads, after.places, strict=True))
    ]
    show_table((PLACES[given.parts], "cost in order", "cost balanced", f"{given.parts} that it has"), rows)
    waited = [f"{1 - 1 / each.imbalance:.1%}" for each in (before, after)]
    print(f"\nThe largest is {before.imbalance:.3f} times the mean in order, {after.imbalance:.3f} balanced.")
    print(f"On average {waited[0]} of the time is waited, and then {waited[1]}.")
    sys.stdout.flush()


def _plain(balance: Balance) -> dict[str, object]:
    return {"places": balance.places, "loads": balance.loads, "imbalance": balance.imbalance}
