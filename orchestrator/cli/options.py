"""The options of every command, and what commands share in reading their words.

`kpipe --json ps` and `kpipe ps --json` are the same. A command that uses one of the names itself keeps it:
`-f` of `tail` follows, so there the pipeline file is `--file`, or `-f` before the word `tail`.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output


def shared_options(*, taken: Iterable[str] = (), hidden: bool = False) -> list[click.Option]:
    """Fresh options, without the names in `taken`."""
    busy = set(taken)
    table: tuple[tuple[list[str], dict[str, Any]], ...] = (
        (["-f", "--file"], {"multiple": True, "metavar": "FILE", "callback": _file, "help": _FILE_HELP}),
        (["--json"], {"is_flag": True, "callback": _json, "help": "Print JSON (docs/json.md)."}),
        (["--no-color"], {"is_flag": True, "callback": _no_color, "help": "No colours."}),
        (["--verbose"], {"is_flag": True, "callback": _verbose, "help": "Show where an error comes from."}),
    )
    options = []
    for names, more in table:
        free = [name for name in names if name not in busy]
        if free:
            options.append(click.Option(free, expose_value=False, is_eager=True, hidden=hidden, **more))
    return options


_FILE_HELP = "The pipeline file; several are merged in order.  [default: pipeline.yaml]"


def add_shared_options(command: click.Command) -> click.Command:
    """`command` (and its subcommands) with the shared options that it has no use of its own for."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            add_shared_options(child)
    taken = {name for param in command.params for name in param.opts}
    if "--no-color" not in taken:
        command.params.extend(shared_options(taken=taken, hidden=True))
        file = "--file FILE" if "-f" in taken else "-f FILE"
        command.epilog = f"Also: {file}, --json, --no-color, --verbose (see `kpipe --help`)."
    return command


def _file(ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> None:
    _app(ctx).given += tuple(Path(name) for name in value)


def _json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    mode = _app(ctx).output
    mode.json = mode.json or value
    output.use(mode)


def _no_color(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    mode = _app(ctx).output
    mode.color = mode.color and not value
    output.use(mode)


def _verbose(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    _app(ctx).verbose = _app(ctx).verbose or value


def _app(ctx: click.Context) -> App:
    return ctx.ensure_object(App)
