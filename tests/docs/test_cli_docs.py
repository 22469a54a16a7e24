"""docs/cli.md and the help agree: every command and option is in both, and every example can be parsed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from orchestrator.cli.context import App
from orchestrator.cli.main import cli
from orchestrator.cli.render import record
from orchestrator.errors import KpipeError
from tests.support.shell import kpipe

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
OPTION = re.compile(r"`(--?[A-Za-z][\w-]*)`")


def sections() -> dict[str, str]:
    """Heading -> what follows it, up to the next one."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        with click.Context(command, info_name=path) as ctx:
            for name in command.list_commands(ctx):
                child = command.get_command(ctx, name)
                assert child is not None
                yield from commands(child, f"{path} {name}")


COMMANDS = dict(commands(cli, "kpipe"))


def options(command: click.Command) -> set[str]:
    """What `--help` lists, save `--help` itself."""
    return {
        name
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden
        for name in (*param.opts, *param.secondary_opts)
    }


def described(section: str) -> set[str]:
    """The options in the first column of the section's tables."""
    cells = re.findall(r"^\| (.*?) \|", section, flags=re.MULTILINE)
    return {option for cell in cells for option in OPTION.findall(cell)} - {"-h", "--help"}


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    assert set(sections()) == set(COMMANDS)


@pytest.mark.parametrize("path", COMMANDS)
def test_every_option_is_described_and_every_description_is_of_an_option(path: str) -> None:
    assert described(sections()[path]) == options(COMMANDS[path])


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_help(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    assert all(param.help for param in command.params if isinstance(param, click.Option))


def test_the_list_on_top_has_every_command_that_does_something() -> None:
    listed = re.findall(r"^\| \[`(.+?)`\]\(#(.+?)\)", PAGE, flags=re.MULTILINE)
    runnable = {path for path, command in COMMANDS.items() if not isinstance(command, click.Group)}
    assert {path for path, _ in listed} == runnable
    assert all(anchor == path.replace(" ", "-") for path, anchor in listed)


def examples() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("line", examples())
def test_every_example_can_be_parsed(line: str) -> None:
    words = shlex.split(re.split(r" [|>] ", line)[0])
    assert words[0] == "kpipe"
    context = cli.make_context("kpipe", words[1:], obj=App())
    while isinstance(context.command, click.Group):
        words = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, words)
        assert command is not None
        context = command.make_context(name, rest, parent=context)


def test_every_command_that_does_something_has_an_example() -> None:
    shown = "\n".join(examples())
    for path, command in COMMANDS.items():
        if not isinstance(command, click.Group):
            assert re.search(rf"^kpipe (-f \S+ )*{path.removeprefix('kpipe ')}\b", shown, flags=re.MULTILINE), path


def test_the_letters_of_a_format_are_those_that_exist() -> None:
    told = set(re.findall(r"`%([A-Za-z])`", sections()["kpipe tail"]))
    assert told == set(record.LETTERS)
    for template in ("%" + "%".join(sorted(told)), r"\n\t\r\0\\\x21"):
        record.by_format(template, escaped=False)
    with pytest.raises(KpipeError):
        record.by_format("%q", escaped=False)


def test_help_shows_what_the_page_says(tmp_path: Path) -> None:
    for path in COMMANDS:
        done = kpipe(tmp_path, *path.split()[1:], "--help")
        assert (done.code, done.err) == (0, "")
        assert all(option in done.out for option in options(COMMANDS[path]))
