"""Table of the commands. A command's module is imported only when it is called or asked for its help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from deploy.cli.spellings import respelt
from deploy.files.printable import printable

__all__ = ["COMMANDS", "Entry", "LazyGroup", "app"]


class Entry(NamedTuple):
    """Where a command is implemented, and its line in the list of commands.

    Parameters
    ----------
    where : str
        ``module:function``; empty for a group, whose commands are in `COMMANDS` under its own name.
    line : str
        First paragraph of the function's docstring, or the help of the group.
    shows : str
        ``module:function`` that shows what the command wrote on another machine (`deploy.edge.boards`); commands with
        it have the option ``--on``.
    """

    where: str
    line: str
    shows: str = ""


COMMANDS: dict[str, dict[str, Entry]] = {
    "deploy": {
        "run": Entry(
            "deploy.cli.run:run",
            "Train, prune, fine-tune, export, check and measure as RECIPE says, or prune your own network by flags.",
        ),
        "init": Entry(
            "deploy.cli.init:init",
            "Inspect your own network and its data, and write a commented recipe for it.",
        ),
        "bench": Entry(
            "deploy.cli.measure.bench:bench",
            "Measure an ONNX file: check its answers, then latency, throughput and memory, in separate processes.",
            "deploy.cli.measure.bench:show_fetched",
        ),
        "compare": Entry(
            "deploy.cli.measure.bench:compare",
            "Measure two ONNX files in turn, and decide whether CANDIDATE is faster than BASELINE.",
            "deploy.cli.measure.bench:show_fetched",
        ),
        "load": Entry(
            "deploy.cli.measure.load:load",
            "Measure an ONNX file under load: throughput, or the highest request rate that keeps a latency bound.",
            "deploy.cli.measure.load:show_fetched",
        ),
        "calibrate": Entry(
            "deploy.cli.measure.calibrate:calibrate",
            "Measure a model against itself: the noise floor of this machine, shown with every later comparison.",
        ),
        "layers": Entry(
            "deploy.cli.measure.layers:layers",
            "Profile an ONNX file layer by layer: time, MACs, bytes, and share of the measured roofline.",
            "deploy.cli.measure.layers:show_fetched",
        ),
        "profile": Entry(
            "deploy.cli.profile_:profile",
            "Profile a network on this board: cold, steady and sustained speed, heat, memory, best setting, layers.",
            "deploy.cli.profile_:show_fetched",
        ),
        "explain": Entry(
            "deploy.cli.measure.explain:explain",
            "Explain why the latency of MODEL did not follow its MACs, by layer and overall, and what to do about it.",
        ),
        "compile": Entry(
            "deploy.cli.measure.compile_:compile_model",
            "Compile an ONNX file and list its layers: what was fused, and what the runtime added.",
        ),
        "report": Entry(
            "deploy.cli.report:report",
            "Print the answer of a results file (with -v, all its tables) and write its page.",
        ),
        "check": Entry(
            "deploy.cli.check:check",
            "Measure the models of a check file against their baselines, and judge every limit.",
        ),
        "comment": Entry(
            "deploy.cli.comment:comment",
            "Post a check report as a comment on this job's pull or merge request, or update the existing comment.",
        ),
        "list": Entry(
            "deploy.cli.list_:list_names",
            "List backends, networks, data sets, scenarios and pruning methods, with what each method does and needs.",
        ),
        "doctor": Entry(
            "deploy.cli.doctor:doctor",
            "Describe this machine, and list backends and data sets, with a remedy for each one that is unusable.",
            "deploy.cli.doctor:show_fetched",
        ),
        "boards": Entry(
            "", "Other machines that commands were run on with --on: list them, and remove what was put there."
        ),
        "history": Entry("", "Keep results over time in one file: list, show and draw them, and find what changed."),
        "plan": Entry("", "Read, draw, compare, apply and transfer pruning plans."),
        "table": Entry("", "Build, print and check latency tables: what each width of a network costs on a backend."),
        "study": Entry("", "Compare pruning methods as RECIPE says, or run one of the other studies."),
    },
    "boards": {
        "list": Entry(
            "deploy.cli.boards.list_:list_boards",
            "List the boards that commands were run on with --on, and the folder created on each.",
        ),
        "clean": Entry(
            "deploy.cli.boards.clean:clean",
            "Stop what is running on a board, and remove the folder created there.",
        ),
    },
    "history": {
        "import": Entry(
            "deploy.cli.history.import_:import_files",
            "Add check reports and results of any version to a history; what it already has is skipped.",
        ),
        "list": Entry(
            "deploy.cli.history.list_:list_all",
            "List the series of a history: how many points each has, its latest value, and when it last changed.",
        ),
        "show": Entry(
            "deploy.cli.history.show:show",
            "Print the points of a series, or of all series of a model, commit by commit, and mark where the level "
            "changed.",
        ),
        "page": Entry(
            "deploy.cli.history.page:page",
            "Write a history as a page: a chart for each series, with its changes, in one self-contained file.",
        ),
        "export": Entry(
            "deploy.cli.history.export:export",
            "Write every run of a history as JSON, one line each, with raw samples; import reads them into another "
            "history.",
        ),
    },
    "plan": {
        "show": Entry("deploy.cli.plan.show:show", "Print what a plan removes and draw the kept units of each group."),
        "diff": Entry(
            "deploy.cli.plan.diff:diff",
            "Compare two plans of one network: which groups differ, by how many units, and how much they overlap.",
        ),
        "apply": Entry(
            "deploy.cli.plan.apply:apply",
            "Apply a plan to a network with new or given weights, verify the result and write it as a bundle.",
        ),
        "transfer": Entry(
            "deploy.cli.plan.transfer:transfer",
            "Transfer the pattern of plans to another network of the same family: the mean kept share of each stage.",
        ),
    },
    "table": {
        "space": Entry(
            "deploy.cli.table.space:space",
            "Export a network, and write how its ONNX file follows the kept counts of its channel groups.",
        ),
        "build": Entry(
            "deploy.cli.table.build:build",
            "Measure random plans of a network, and fit how the time of each layer follows its widths.",
            "deploy.cli.table.build:show_fetched",
        ),
        "list": Entry(
            "deploy.cli.table.list_:list_tables",
            "List the latency tables that were measured on this machine and are reused, newest first.",
        ),
        "show": Entry(
            "deploy.cli.table.show:show",
            "Print how well a latency table predicts, and where the time of the dense network goes.",
        ),
        "check": Entry(
            "deploy.cli.table.check:check",
            "Measure plans that the table has not seen, and print how far its predictions are off.",
        ),
        "export": Entry(
            "deploy.cli.table.export:export",
            "Write the predicted time of each layer at each full block of its groups, as CSV.",
        ),
    },
    "study": {
        "run": Entry(
            "deploy.cli.study.run:run",
            "Compare pruning methods as RECIPE says: accuracy over seeds alongside measured speed.",
        ),
        "coverage": Entry(
            "deploy.cli.study.coverage:coverage",
            "Remove 30 % of the units of every network of a list, verify, export and run the result on two runtimes.",
        ),
        "oracle": Entry(
            "deploy.cli.study.oracle:oracle",
            "Ablate each unit of RECIPE's dense network alone, and correlate every criterion with the change in loss.",
        ),
        "published": Entry(
            "deploy.cli.study.published:published",
            "Measure pruned networks published in papers alongside their dense parents (random weights).",
        ),
    },
}
"""Name of a group -> name of a command -> its entry."""

_STUDY = ("study", "run")
"""The command behind ``deploy study RECIPE``, whose own name is not typed."""


class _Commands(Mapping[str, Any]):
    """The commands of one group; a command is imported when it is looked up."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def __getitem__(self, name: str) -> Any:
        where, line, shows = self._entries[name]
        if not where:
            return typer.main.get_command(_group(name, line))
        module, _, function = where.partition(":")
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        spread = import_module("deploy.cli.options").spread
        single.command(name, cls=_Command)(spread(getattr(import_module(module), function)))
        command: Any = typer.main.get_command(single)
        command.params.append(_added("quiet", _has_quiet))
        if shows:
            command.shows = shows
            command.params += [_added("on", _runs_on), _added("wheels", _runs_on)]
        return command

    def get(self, name: str, default: Any = None) -> Any:
        """Return a command; a KeyError raised by the import of its module does not count as an unknown command."""
        return self[name] if name in self._entries else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


class _Command(TyperCommand):
    """A command that accepts former names of its options, and may run on another machine."""

    shows = ""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        group = "deploy" if ctx.parent is None else str(ctx.parent.command.name)
        return super().parse_args(ctx, respelt((group, str(self.name)), args, _say))

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and show its progress."""
        watched = import_module("deploy.cli.output").watched
        options = frozenset(flag for option in self.params for flag in option.opts)
        recipe, quiet = "recipe" in ctx.params, ctx.params.pop("quiet")
        # Other commands may have an `--on` of their own.
        board, wheels = (ctx.params.pop(name) if self.shows else None for name in ("on", "wheels"))
        with watched(ctx.command_path.strip(), quiet=quiet, options=options, recipe=recipe):
            if board is not None or wheels is not None:
                return import_module("deploy.cli.boards.there").run_there(ctx, self.shows, board, wheels)
            return super().invoke(ctx)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Write the usage line, without the name of `_STUDY`."""
        formatter.write_usage(ctx.command_path.strip(), " ".join(self.collect_usage_pieces(ctx)))


class LazyGroup(TyperGroup):
    """A group that knows its commands by name and help line, and imports only the one that is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        entries = COMMANDS[settings["name"]]
        self._lines = [(name, entry.line) for name, entry in entries.items() if (self.name, name) != _STUDY]
        commands: Any = _Commands(entries)
        self.commands = commands

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        """Write the list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(self._lines)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help; that of ``deploy study`` begins with the arguments and options of `_STUDY`."""
        if self.name != _STUDY[0]:
            super().format_help(ctx, formatter)
            return
        study = self.commands[_STUDY[1]]
        study.format_help(study.make_context(None, [], parent=ctx, resilient_parsing=True), formatter)
        self.format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Complete the names of commands, without importing them."""
        ours: Any = {name: TyperCommand(name, help=line, short_help=line) for name, line in self._lines}
        real, self.commands = self.commands, ours
        try:
            return super().shell_complete(ctx, incomplete)
        finally:
            self.commands = real

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take words after ``deploy study`` as a recipe if they name no command; a misspelt name is reported."""
        if self.name == _STUDY[0] and args and args[0] not in ctx.help_option_names:
            first = args[0]
            if first == _STUDY[1]:
                _say("deploy: deploy study run RECIPE is now deploy study RECIPE")
            elif first not in self.commands and (
                first.startswith("-") or "." in first or "/" in first or Path(first).is_file()
            ):
                args = [_STUDY[1], *args]
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command; `_STUDY` takes the name of its group."""
        name, command, rest = super().resolve_command(ctx, args)
        return (None if (self.name, name) == _STUDY else name), command, rest


def _added(name: str, function: Any) -> Any:
    """Return an option that commands get in addition to their own, as typer makes it."""
    bare = typer.Typer(add_completion=False, rich_markup_mode=None)
    bare.command()(function)
    return next(option for option in typer.main.get_command(bare).params if option.name == name)


def _has_quiet(
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Do not show progress."),
) -> None:
    pass


def _runs_on(
    on: str | None = typer.Option(
        None, "--on", metavar="BOARD", help="Measure on another machine: ssh://USER@HOST[:PORT][/FOLDER]."
    ),
    wheels: str | None = typer.Option(
        None,
        "--wheels",
        metavar="FOLDER",
        help="With --on: wheels to install there, for a board without a package index.",
    ),
) -> None:
    pass


def _say(line: str) -> None:
    typer.echo(printable(line), err=True)


def _group(name: str, line: str, *, completion: bool = False) -> typer.Typer:
    group = typer.Typer(
        name=name,
        cls=LazyGroup,
        help=line,
        no_args_is_help=True,
        add_completion=completion,
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    group.callback()(lambda: None)
    return group


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version  # takes 20 ms, which no other command should wait for

        typer.echo(version("prune-deploy"))
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
    ),
) -> None:
    pass


app = _group(
    "deploy",
    "What does pruning really buy on the hardware it will run on? Prune, export, compile, check, measure.",
    completion=True,
)
app.callback()(_options)
