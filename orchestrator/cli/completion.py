"""`kpipe completion`: what makes a shell complete kpipe's words, and the names of the pipeline that it then offers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import KpipeError

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline

#: The variable by which the shell's script asks; its value says in which form (click's protocol).
VARIABLE = "_KPIPE_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that makes the shell complete commands, options and the pipeline's names.

    The names of topics, handlers and events come from the pipeline file of the folder, or from that of `-f`.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from orchestrator.cli.main import cli

    made = get_completion_class(shell)
    if made is None:  # cannot be: click has these three
        raise KpipeError(f"no completion for {shell}")
    # Its own `source` starts the bash that it finds on the PATH, to ask for its version.
    output.data(ShellComplete.source(made(cli, {}, "kpipe", VARIABLE)).rstrip())


class Names(click.types.StringParamType):
    """A word as it stands, completed by names of the pipeline."""

    def __init__(self, names: Callable[[Pipeline], Iterable[str]]) -> None:
        self._names = names

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Nothing where the file is wrong or missing: a shell is no place for findings."""
        app = ctx.find_object(App) or App()
        try:
            pipeline = app.load()
        except KpipeError:
            return []
        taken = ctx.params.get(param.name or "")
        used = set(taken) if isinstance(taken, tuple) else set()
        return [CompletionItem(n) for n in self._names(pipeline) if n.startswith(incomplete) and n not in used]


#: By what an argument is called in the help (without brackets and dots).
_ARGUMENTS = {
    "TOPIC": Names(lambda pipeline: pipeline.topics),
    "DLQ": Names(lambda pipeline: [name for name, topic in pipeline.topics.items() if topic.is_dlq]),
    "HANDLER": Names(lambda pipeline: pipeline.handlers),
    "EVENT": Names(lambda pipeline: [*pipeline.events, *pipeline.topics]),
}


def complete_names(command: click.Command) -> click.Command:
    """`command` and its subcommands, with arguments that know the names of the pipeline."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            complete_names(child)
    for param in command.params:
        if isinstance(param, click.Argument) and param.metavar:
            param.type = _ARGUMENTS.get(param.metavar.strip("[].…"), param.type)
    return command
