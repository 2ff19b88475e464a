"""`shardproof scale`, `plan` and `profile`: plans of production size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conformance.cli.annotated import AsJson, option
from conformance.cli.exit_status import exit_status
from conformance.cli.once import Once

app = typer.Typer()


@app.command(cls=Once)
@exit_status
def scale(
    plans: Annotated[
        list[str] | None,
        typer.Argument(metavar="PLAN", help="Plans by name, or your own file.py:NAME; all of them by default."),
    ] = None,
    mesh: Annotated[str | None, option("--mesh", "M", "A mesh; by default that of each plan.")] = None,
    chip: Annotated[
        str | None, option("--chip", "CHIP", "h100 (default), h200, a100, or a JSON file; of a plan file its own.")
    ] = None,
    framework: Annotated[str, typer.Option("--framework", metavar="F", help="jax (default) or torch.")] = "jax",
    output: Annotated[Path | None, option("--output", "DIR", "Where the report goes.")] = None,
    as_json: AsJson = False,
) -> int:
    """Read plans of production size, never run: what a device holds and sends, and whether it fits."""
    from conformance.cli.scale import scale as scale_command

    return scale_command(plans or [], mesh=mesh, chip=chip, framework=framework, output=output, as_json=as_json)


@app.command(cls=Once)
@exit_status
def plan(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="175B, 7e9, 8x7B, or a named plan.", show_default=False)
    ] = None,
    devices: Annotated[int | None, option("--devices", "N", "How many devices.")] = None,
    memory: Annotated[
        str | None, option("--memory", "M", "Of a device, as 80GiB; by default that of the chip.")
    ] = None,
    chip: Annotated[str, typer.Option("--chip", metavar="CHIP", help="h100, h200, a100, or a JSON file.")] = "h100",
    objective: Annotated[
        str, typer.Option("--objective", metavar="O", help="throughput, memory or latency.")
    ] = "throughput",
    max_all_reduce: Annotated[
        str | None, option("--max-all-reduce", "BYTES", "Of the largest all-reduce, as 1GiB.")
    ] = None,
    search: Annotated[list[str] | None, option("--search", "AXIS", "Divide over this axis; may be repeated.")] = None,
    rows: Annotated[int | None, option("--rows", "N", "Of the whole batch; by default that of the shape.")] = None,
    length: Annotated[int | None, option("--length", "N", "Tokens in a row; by default those of the shape.")] = None,
    parameters: Annotated[
        str, typer.Option("--parameters", metavar="D", help="Their dtype between steps: float32 or bfloat16.")
    ] = "float32",
    output: Annotated[Path | None, option("--output", "FILE", "Where the plan goes, a JSON file.")] = None,
    apply: Annotated[Path | None, option("--apply", "FILE", "Check this plan small, and compile it large.")] = None,
    planner: Annotated[
        str | None, option("--planner", "P", "Hold a planner to the laws of plans: file.py:function, or ours.")
    ] = None,
    balance: Annotated[
        Path | None, option("--balance", "FILE", "Give measured costs of layers, experts or rows to --devices places.")
    ] = None,
    tune: Annotated[
        float | None, option("--tune", "MINUTES", "Then measure the best layouts on devices of this machine.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Choose how to divide a model over devices; what is returned is compiled, and fits."""
    if balance is not None:
        from conformance.cli.balance import balance as balance_command

        return balance_command(balance, devices or 0, as_json=as_json)
    if planner is not None or apply is not None:
        from conformance.cli.planner import apply_plan, judge_planner

        return judge_planner(planner, as_json=as_json) if apply is None else apply_plan(apply, as_json=as_json)
    from conformance.cases.usage import UsageError
    from conformance.cli.plan import plan as plan_command
    from conformance.planner.asking import Asked

    if model is None or devices is None:
        raise UsageError("A plan is for a model on so many devices: `shardproof plan 175B --devices 64`.")
    asked = Asked(
        model=model, devices=devices, memory=memory, chip=chip, objective=objective, max_all_reduce=max_all_reduce,
        search=tuple(search or ()), rows=rows, length=length, parameters=parameters,
    )  # fmt: skip
    if tune is not None:
        from conformance.cli.tune import tune as tune_command

        return tune_command(asked, tune, output=output, as_json=as_json)
    return plan_command(asked, output=output, as_json=as_json)


@app.command(cls=Once)
@exit_status
def profile(
    case: Annotated[str, typer.Argument(metavar="CASE|PLAN", help="A case id, or a plan file.", show_default=False)],
    chip: Annotated[
        str | None, option("--chip", "CHIP", "On which shares are modelled: h100 (default), or that of the plan.")
    ] = None,
    output: Annotated[Path | None, option("--output", "DIR", "Where page, picture and trace go.")] = None,
    as_json: AsJson = False,
) -> int:
    """Say where the time of a step goes, what it sends along each axis, and what each device holds."""
    from conformance.cli.profile import profile as profile_command

    return profile_command(case, chip=chip, output=output, as_json=as_json)
