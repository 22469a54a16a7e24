"""The command `kpipe`: finds the command's module, runs it, turns whatever it raises into an exit code.

Only click is imported here. A command's module is imported when that command is named, so `kpipe --help` and
a typing mistake cost no Kafka client, no YAML parser and no JSON Schema compiler.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from orchestrator import __version__
from orchestrator.cli.context import App
from orchestrator.cli.options import add_shared_options, shared_options
from orchestrator.cli.render import output
from orchestrator.errors import (
    EXIT_CLOSED_OUTPUT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_UNEXPECTED,
    KpipeError,
    UsageError,
)

#: What `kpipe --help` says about each command, in that order.
COMMANDS = {
    "up": "Start the whole pipeline: Kafka, topics, handlers.",
    "down": "Stop the running pipeline.",
    "ps": "Show the handlers of the running pipeline.",
    "logs": "Show what the handlers have printed.",
    "restart": "Start handlers of the running pipeline afresh.",
    "scale": "Change how many replicas of a handler run.",
    "wait": "Wait until the pipeline is ready, or has nothing left to do.",
    "init": "Make a new project that runs.",
    "validate": "Check the pipeline file and its schemas.",
    "schemas": "Show the contracts of events, and check what a change breaks.",
    "topics": "Create, change and list the topics.",
    "broker": "Start, stop or fetch the local Apache Kafka.",
    "send": "Send an event.",
    "tail": "Show what is in topics.",
    "dlq": "Look into the dead letter queues.",
    "trace": "Show what became of an event.",
    "handler": "Try handlers by themselves.",
    "lag": "Show how far handlers are behind.",
    "graph": "Show handlers and topics as a graph.",
    "doctor": "Check this machine and this folder.",
    "smoke": "Try the pipeline by its smoke scenarios.",
    "completion": "Make the shell complete kpipe's words.",
}

#: The folder of each command's module, which has the command's name. `completion` is beside this file.
_FOLDERS = {
    "running": ("up", "down", "ps", "logs", "restart", "scale", "wait"),
    "project": ("init", "validate", "schemas", "handler", "graph", "doctor", "smoke"),
    "cluster": ("topics", "broker", "send", "tail", "dlq", "trace", "lag"),
}
#: Command -> its module, imported only when the command is used.
MODULES = {name: f"orchestrator.cli.{folder}.{name}" for folder, names in _FOLDERS.items() for name in names} | {
    "completion": "orchestrator.cli.completion"
}


class Root(click.Group):
    """A group whose commands are modules."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(MODULES[cmd_name]).command
        command.short_help = COMMANDS[cmd_name]
        if ctx.resilient_parsing:  # a shell asks what may come next
            from orchestrator.cli.completion import complete_names

            complete_names(command)
        return add_shared_options(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            from orchestrator.text import did_you_mean

            guess = did_you_mean(args[0], self.list_commands(ctx))
            raise UsageError(f"there is no command `{args[0]}`", guess or "`kpipe --help` lists the commands")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        output.data(f"kpipe {__version__}")
        ctx.exit()


cli = Root(
    "kpipe",
    help="Event-driven systems on Apache Kafka from one file, pipeline.yaml.",
    epilog="`kpipe COMMAND --help` explains a command. These options may stand before or after its name.",
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[
        *shared_options(),
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
            help="Show the version and end.",
        ),
    ],
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code (docs/cli.md)."""
    words = list(sys.argv[1:] if argv is None else argv)
    output.prepare()
    app = App()
    try:
        code = _run(words, app)
        output.flush()
    except KpipeError as problem:
        code = _failed(problem, words, app)
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.exceptions.NoArgsIsHelpError as missing:
        output.say(missing.format_message())
        code = missing.exit_code
    except click.UsageError as wrong:
        code = _failed(_in_our_words(wrong), words, app)
    except (KeyboardInterrupt, click.Abort):
        code = EXIT_INTERRUPTED
    except BrokenPipeError:
        code = EXIT_CLOSED_OUTPUT
    except Exception as bug:  # noqa: BLE001 - the last line of defence: no traceback unless it is asked for
        code = _unexpected(bug, words, app)
    return _finish(code)


def _run(words: list[str], app: App) -> int:
    if sys.platform == "win32":
        raise UsageError("kpipe does not run on Windows itself", "run it inside WSL: https://aka.ms/wsl")
    instruction = os.environ.get("_KPIPE_COMPLETE")
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {"obj": app}, "kpipe", "_KPIPE_COMPLETE", instruction)
    # Not `cli.main()`: that one turns a closed pipe into exit code 1 before anybody else sees it.
    with cli.make_context("kpipe", words, obj=app) as ctx:
        result: Any = cli.invoke(ctx)
    return result if isinstance(result, int) else EXIT_OK


def _failed(problem: KpipeError, words: list[str], app: App) -> int:
    # A usage error may come before `--json` was parsed; whoever typed it still wants JSON.
    mode = app.output
    mode.color, mode.json = mode.color and "--no-color" not in words, mode.json or "--json" in words
    output.use(mode)
    output.error(problem)
    return problem.exit_code


def _in_our_words(wrong: click.UsageError) -> UsageError:
    where = wrong.ctx.command_path if wrong.ctx else "kpipe"
    return UsageError(wrong.format_message(), f"`{where} --help` shows how it is used")


def _unexpected(bug: Exception, words: list[str], app: App) -> int:
    if app.verbose or "--verbose" in words:
        import traceback

        output.say(output.safe("".join(traceback.format_exception(bug)), lines=True))
    what = f"unexpected: {type(bug).__name__}: {bug}, please report"
    _failed(KpipeError(what, "the same command with --verbose shows where it happened"), words, app)
    return EXIT_UNEXPECTED


def _finish(code: int) -> int:
    """Flush what is left. A reader that went away must not cause a second complaint from Python at exit."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return code or EXIT_CLOSED_OUTPUT
    return code
