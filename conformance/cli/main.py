"""The command line. It starts fast: every command imports what it needs when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from conformance.cli import planning, qualify
from conformance.cli.annotated import AsJson
from conformance.cli.annotated import option as _option
from conformance.cli.exit_status import exit_status as _status
from conformance.cli.once import Once

app = typer.Typer(
    name="shardproof",
    help="Does a model that is split over many devices still compute what one device computes?",
    epilog="Exit status: 0 all as expected, 1 something failed, 2 wrong usage, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(planning.app)
app.add_typer(qualify.app, name="qualify")

Suites = Annotated[list[str] | None, typer.Argument(metavar="SUITE", help="Suites; all of them by default.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.", show_default=False)]


def _version(asked: bool) -> None:
    if asked:
        from conformance.records import environment

        typer.echo(f"shardproof {environment.packages()['shardproof'] or 'unknown'}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Does a model that is split over many devices still compute what one device computes?"""


@app.command(cls=Once)
@_status
def run(
    suites: Suites = None,
    profile: Annotated[str | None, _option("--profile", "P", "smoke, core (default), full or qualification.")] = None,
    contract: Annotated[
        list[str] | None, _option("--contract", "C", "A contract, for example tensor/mlp; several run in this order.")
    ] = None,
    case: Annotated[
        list[str] | None, _option("--case", "ID", "A case; several run in this order, in the same worker.")
    ] = None,
    implementation: Annotated[
        str | None, _option("--implementation", "I", "A registered name, or your own file.py:Class.")
    ] = None,
    framework: Annotated[str | None, _option("--framework", "F", "jax or torch.")] = None,
    mesh: Annotated[str | None, _option("--mesh", "M", "For example data=2,tensor=4 or tensor=4@reversed.")] = None,
    dtype: Annotated[str | None, _option("--dtype", "D", "float64, float32, bfloat16 or float16.")] = None,
    check: Annotated[list[str] | None, _option("--check", "C", "Judge by this check only; may be repeated.")] = None,
    devices: Annotated[str, _option("--devices", "KIND", "emulated (default), single or real.")] = "emulated",
    seed: Annotated[int | None, _option("--seed", "N", "Draw parameters and batches with this seed.")] = None,
    output: Annotated[
        Path | None, _option("--output", "DIR", "Where the records go; shardproof-results/<time> by default.")
    ] = None,
    resume: Annotated[Path | None, _option("--resume", "DIR", "Go on with an earlier run.")] = None,
    fraction: Annotated[str | None, _option("--fraction", "i/n", "The i-th of n equal shares of the cases.")] = None,
    expectations: Annotated[Path | None, _option("--expectations", "FILE", "Your own list of known failures.")] = None,
    timeout: Annotated[
        float | None, _option("--timeout", "SECONDS", "A case that takes longer hangs; 120 by default, more if large.")
    ] = None,
    workers: Annotated[
        int | None, _option("--workers", "N", "Cases at once; as many as there are cores and memory for by default.")
    ] = None,
    trials: Annotated[
        bool, typer.Option("--trials/--no-trials", help="Run what fails again, one thing taken away at a time.")
    ] = True,
    as_json: AsJson = False,
) -> int:
    """Judge cases, or what proves a plan file small, and write their records and a report."""
    from conformance.cases.plan_file import proofs
    from conformance.cases.selection import Selection
    from conformance.cli.run import How
    from conformance.cli.run import run as run_command

    named, proving = proofs(suites or ())
    wanted = Selection(
        suites=tuple(named), profile=profile, contracts=tuple(contract or ()), cases=(*(case or ()), *proving),
        implementation=implementation, framework=framework, mesh=mesh, dtype=dtype, seed=seed, fraction=fraction,
        devices=devices, expectations=str(expectations) if expectations else None,
    )  # fmt: skip
    how = How(checks=tuple(check or ()), timeout_seconds=timeout, trials=trials, workers=workers, as_json=as_json)
    return run_command(wanted, how, output=output, resume=resume)


@app.command(name="list", cls=Once)
@_status
def list_(
    what: Annotated[
        str, typer.Argument(metavar="suites|contracts|implementations|meshes|faults|cases|plans", show_default=False)
    ],
    suite: Annotated[str | None, _option("--suite", "S", "Of this suite only.")] = None,
    profile: Annotated[str | None, _option("--profile", "P", "Cases and meshes of this profile only.")] = None,
    contract: Annotated[
        str | None, _option("--contract", "C", "What is of this contract only: cases, meshes, implementations, faults.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List what there is."""
    from conformance.cli.listing import Filter, show

    return show(what, Filter(suite=suite, profile=profile, contract=contract), as_json=as_json)


@app.command(cls=Once)
@_status
def explain(
    case: Annotated[
        str, typer.Argument(metavar="CASE|CONTRACT", help="A case id, or the name of a contract.", show_default=False)
    ],
    as_json: AsJson = False,
) -> int:
    """Say what a case checks, why, and what came out last; or what a contract gives and asks for."""
    from conformance.cli.explain import show

    return show(case, as_json=as_json)


@app.command(cls=Once)
@_status
def power(
    suites: Suites = None,
    implementation: Annotated[
        str | None, _option("--implementation", "I", "A registered name, or your own file.py:Class.")
    ] = None,
    contract: Annotated[
        list[str] | None, _option("--contract", "C", "A contract that your class claims to honour; may be repeated.")
    ] = None,
    mesh: Annotated[
        str | None, _option("--mesh", "M", "Where your class runs; by default, meshes of the contract.")
    ] = None,
    output: Annotated[Path | None, _option("--output", "DIR", "Where the kill table goes.")] = None,
    as_json: AsJson = False,
) -> int:
    """Plant faults and count how many the checks kill."""
    from conformance.cli.power import Asked
    from conformance.cli.power import power as power_command

    asked = Asked(suites=tuple(suites or ()), implementation=implementation, contracts=tuple(contract or ()), mesh=mesh)
    return power_command(asked, output=output, as_json=as_json)


@app.command(cls=Once)
@_status
def fuzz(
    implementation: Annotated[
        str, typer.Argument(metavar="IMPLEMENTATION", help="A registered name, or your own file.py:Class.")
    ],
    contract: Annotated[
        list[str] | None, _option("--contract", "C", "Vary this contract; may be repeated. By default all.")
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", metavar="M", help="How long to draw.")] = 5.0,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Where drawing begins.")] = 0,
    output: Annotated[Path | None, _option("--output", "DIR", "Where the report of a failure goes.")] = None,
    as_json: AsJson = False,
) -> int:
    """Draw cases at random, and make the first that fails as small as it gets."""
    from conformance.cli.fuzz import Asked
    from conformance.cli.fuzz import fuzz as fuzz_command

    asked = Asked(implementation=implementation, contracts=tuple(contract or ()), minutes=minutes, seed=seed)
    return fuzz_command(asked, output=output, as_json=as_json)


@app.command(cls=Once, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@_status
def record(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND", help="The single-device script, as it is run.")],
    runs: Annotated[int, typer.Option("--runs", metavar="N", help="Runs in all: the oracle, and N - 1 members.")] = 9,
    dtype: Annotated[str | None, _option("--dtype", "D", "Of the members; that of the script by default.")] = None,
    output: Annotated[Path, typer.Option("--output", metavar="DIR", help="A new folder.")] = Path("runs/single"),
) -> int:
    """Record your own single-device trainer: the oracle, and how far rounding moves it."""
    from conformance.cli.record import record as record_command

    return record_command(command, runs=runs, dtype=dtype, output=output)


@app.command(cls=Once)
@_status
def judge(
    single: Annotated[Path, typer.Argument(metavar="SINGLE", help="What `record` has left.", show_default=False)],
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="Captured runs.", show_default=False)
    ] = None,
    launch: Annotated[
        list[str] | None, _option("--launch", "COMMAND", "Run this first, and judge what it captures; may be repeated.")
    ] = None,
    output: Annotated[
        Path | None, _option("--output", "DIR", "Where the records go; shardproof-results/<time> by default.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Judge captured runs of your own trainer by its recording, offline."""
    from conformance.cli.judge import judge as judge_command

    return judge_command(single, runs or [], launches=launch or [], output=output, as_json=as_json)


@app.command(cls=Once)
@_status
def report(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR|PLAN", help="A results directory, or a plan file.", show_default=False)
    ],
    as_json: AsJson = False,
) -> int:
    """Write HTML, JUnit, CSV and Markdown into DIR, or one page of a plan beside it."""
    from conformance.cli.reporting import report as report_command

    return report_command(directory, as_json=as_json)


@app.command(cls=Once)
@_status
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", show_default=False)],
    as_json: AsJson = False,
) -> int:
    """Say what changed between two runs."""
    from conformance.report.compare import show

    return show(before, after, as_json=as_json)


@app.command(cls=Once)
@_status
def doctor(as_json: AsJson = False) -> int:
    """Say what this machine can run, and what is missing."""
    from conformance.cli.doctor import show

    return show(as_json=as_json)


def main() -> None:
    """The entry point of `shardproof`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # whatever the terminal can show, nothing is lost over it
    try:
        app()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
