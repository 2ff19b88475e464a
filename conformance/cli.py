"""The command line. It starts fast: every command imports what it needs when it is called."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="shardproof",
    help="Does a model that is split over many devices still compute what one device computes?",
    epilog="Exit status: 0 all as expected, 1 something failed, 2 wrong usage.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Suites = Annotated[list[str] | None, typer.Argument(metavar="SUITE", help="Suites; all of them by default.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Directory = Annotated[Path, typer.Argument(metavar="DIR", help="A results directory.", show_default=False)]


def _option(name: str, metavar: str, text: str) -> Any:
    return typer.Option(name, metavar=metavar, help=text, show_default=False)


def _status(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns into the exit status, and wrong usage into one sentence and status 2."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        from conformance.usage import UsageError

        try:
            status = command(*args, **kwargs)
        except UsageError as wrong:
            typer.echo(str(wrong), err=True)
            status = 2
        raise typer.Exit(status)

    return wrapped


@app.command()
@_status
def run(
    suites: Suites = None,
    profile: Annotated[str | None, _option("--profile", "P", "smoke, core (default), full or qualification.")] = None,
    contract: Annotated[str | None, _option("--contract", "C", "One contract, for example tensor/mlp.")] = None,
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
    as_json: AsJson = False,
) -> int:
    """Judge cases and write their records and a report."""
    from conformance.commands.run import run as run_command
    from conformance.plan import Selection

    wanted = Selection(
        suites=tuple(suites or ()), profile=profile, contract=contract, implementation=implementation,
        framework=framework, mesh=mesh, dtype=dtype, seed=seed, fraction=fraction, devices=devices,
    )  # fmt: skip
    return run_command(wanted, checks=check or (), output=output, resume=resume, as_json=as_json)


@app.command(name="list")
@_status
def list_(
    what: Annotated[
        str, typer.Argument(metavar="suites|contracts|implementations|meshes|faults|cases", show_default=False)
    ],
    as_json: AsJson = False,
) -> int:
    """List what there is."""
    from conformance.commands.listing import show

    return show(what, as_json=as_json)


@app.command()
@_status
def explain(
    case: Annotated[str, typer.Argument(metavar="CASE", help="A case id.", show_default=False)],
    as_json: AsJson = False,
) -> int:
    """Say what a case checks, why, and what came out last."""
    from conformance.explain import show

    return show(case, as_json=as_json)


@app.command()
@_status
def power(
    suites: Suites = None,
    implementation: Annotated[
        str | None, _option("--implementation", "I", "A registered name, or your own file.py:Class.")
    ] = None,
    output: Annotated[Path | None, _option("--output", "DIR", "Where the kill table goes.")] = None,
    as_json: AsJson = False,
) -> int:
    """Plant faults and count how many the checks kill."""
    from conformance.commands.power import power as power_command

    return power_command(tuple(suites or ()), implementation=implementation, output=output, as_json=as_json)


@app.command()
@_status
def report(directory: Directory, as_json: AsJson = False) -> int:
    """Write HTML, JUnit, CSV and Markdown into DIR."""
    from conformance.commands.reporting import report as report_command

    return report_command(directory, as_json=as_json)


@app.command()
@_status
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", show_default=False)],
    as_json: AsJson = False,
) -> int:
    """Say what changed between two runs."""
    from conformance.compare import show

    return show(before, after, as_json=as_json)


@app.command()
@_status
def doctor(as_json: AsJson = False) -> int:
    """Say what this machine can run, and what is missing."""
    from conformance.doctor import show

    return show(as_json=as_json)


def main() -> None:
    """The entry point of `shardproof`."""
    try:
        app()
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
