"""`shardproof qualify run|pack|verify|replay`: a chip against the must-pass list, and the package that shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conformance.cli.annotated import AsJson, option
from conformance.cli.exit_status import exit_status
from conformance.cli.once import Once

app = typer.Typer(
    help="Run the must-pass list on a chip, pack what came out, verify a package, run a sample of it again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Package = Annotated[Path, typer.Argument(metavar="PACKAGE", help="A package that `pack` made.", show_default=False)]


@app.command(cls=Once)
@exit_status
def run(
    suites: Annotated[list[str] | None, typer.Argument(metavar="SUITE", help="All of them by default.")] = None,
    devices: Annotated[str, typer.Option("--devices", metavar="KIND", help="real, or emulated to try it.")] = "real",
    framework: Annotated[str | None, option("--framework", "F", "jax or torch; both by default.")] = None,
    most_devices: Annotated[int | None, option("--most-devices", "N", "Meshes of at most N devices.")] = None,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="The smoke cases instead of the must-pass list: qualifies nothing.")
    ] = False,
    output: Annotated[Path | None, option("--output", "DIR", "Where the records go.")] = None,
    resume: Annotated[Path | None, option("--resume", "DIR", "Go on with an earlier run, as it was asked for.")] = None,
    workers: Annotated[int | None, option("--workers", "N", "Cases at once.")] = None,
    as_json: AsJson = False,
) -> int:
    """Run the must-pass list, with every figure recorded. Go on with --resume DIR after whatever ended it."""
    from conformance.cases.selection import Selection
    from conformance.cli.qualification import Asked, go_on, qualify

    wanted = Selection(suites=tuple(suites or ()), framework=framework, devices=devices)
    asked = Asked(wanted=wanted, most_devices=most_devices, rehearse=rehearse, workers=workers, as_json=as_json)
    return go_on(resume, asked, output) if resume is not None else qualify(asked, output)


@app.command(cls=Once)
@exit_status
def pack(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `run` wrote.", show_default=False)],
    vendor: Annotated[str, option("--vendor", "NAME", "Who makes the device.")],
    device: Annotated[str, option("--device", "NAME", "The device.")],
    stack: Annotated[str, option("--stack", "VERSIONS", "Driver, compiler and plugin with their versions.")],
    output: Annotated[Path, option("--output", "FILE", "The package, a zip file.")],
    waivers: Annotated[Path | None, option("--waivers", "FILE", "Waivers, signed by the suite's side.")] = None,
    as_json: AsJson = False,
) -> int:
    """Make a package of a finished run, and verify it."""
    from conformance.cli.qualification import packed

    return packed(directory, output, {"vendor": vendor, "device": device, "stack": stack}, waivers, as_json=as_json)


@app.command(cls=Once)
@exit_status
def verify(package: Package, as_json: AsJson = False) -> int:
    """Judge a package again, from its figures and the suite's own bounds. Needs no framework and no device."""
    from conformance.cli.qualification import verified

    return verified(package, as_json=as_json)


@app.command(cls=Once)
@exit_status
def replay(
    package: Package,
    sample: Annotated[int, typer.Option("--sample", metavar="N", help="So many cases.")] = 10,
    devices: Annotated[str, typer.Option("--devices", metavar="KIND", help="real or emulated.")] = "emulated",
    seed: Annotated[int | None, option("--seed", "N", "Draw the same sample and seeds again.")] = None,
    as_json: AsJson = False,
) -> int:
    """Run a sample of a package again, with its seeds and with fresh ones, and compare."""
    from conformance.cli.qualification import replayed

    return replayed(package, sample, devices, seed, as_json=as_json)
