"""The table of commands."""

from __future__ import annotations

import typer

from deploy.cli import bench, calibrate, compile_, doctor, layers, list_, load, plan, report, run, study

__all__ = ["app"]

app = typer.Typer(
    name="deploy",
    help="What does pruning really buy on the hardware it will run on? Prune, export, compile, check, measure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("run")(run.run)
app.command("bench")(bench.bench)
app.command("compare")(bench.compare)
app.command("load")(load.load)
app.command("calibrate")(calibrate.calibrate)
app.command("layers")(layers.layers)
app.command("compile")(compile_.compile_model)
app.command("report")(report.report)
app.add_typer(plan.plan, name="plan")
app.add_typer(study.study, name="study")
app.command("list")(list_.list_names)
app.command("doctor")(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("prune-deploy"))
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
    ),
) -> None:
    pass
