"""`kpipe init`: a small new project that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from orchestrator.cli.context import App
from orchestrator.cli.render import output
from orchestrator.errors import KpipeError, UsageError

_NAME_LINE = "pipeline: greetings\n"
_IGNORED = "# what kpipe keeps here: logs, and the data of its own Kafka\n.kpipe/\n__pycache__/\n"


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=".", metavar="[FOLDER]")
@click.pass_obj
def command(app: App, folder: Path) -> None:
    """Make a new project in FOLDER: a pipeline file, two schemas, a handler and smoke scenarios, which run as they are.

    The folder is made if need be. Nothing is ever overwritten.
    """
    contents = dict(_contents(_pipeline_name(folder)))
    there = [path for path in contents if (folder / path).exists()]
    if there:
        raise UsageError(
            f"{folder / there[0]} exists already" + (f", and {len(there) - 1} more" if len(there) > 1 else ""),
            "nothing was written; name another folder: kpipe init FOLDER",
        )
    written = _write(folder, contents)
    if app.json:
        output.json_line({"folder": str(folder.resolve()), "files": written})
        return
    for path in written:
        output.data(output.safe(str(folder / path)))
    first = "" if folder.resolve() == Path.cwd() else f"`cd {output.safe(str(folder))}`, "
    output.say(f"next: {first}`kpipe up`, and in another terminal `kpipe send greeting`; or `kpipe smoke`")


def _pipeline_name(folder: Path) -> str:
    """The folder's name as far as a pipeline may be called so: it names the consumer groups."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return name[:40].strip("-") or "greetings"


def _contents(name: str) -> Iterator[tuple[str, str]]:
    for path, source in _files(files("orchestrator.cli.project") / "template"):
        text = source.read_text("utf-8")
        yield path, text.replace(_NAME_LINE, f"pipeline: {name}\n")


def _files(folder: Traversable, under: str = "") -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name)):
        path = f"{under}{entry.name}"
        if entry.is_file():
            yield path, entry
        elif entry.name != "__pycache__":
            yield from _files(entry, f"{path}/")


def _write(folder: Path, contents: dict[str, str]) -> list[str]:
    ignored = folder / ".gitignore"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not ignored.exists():
            contents = {**contents, ignored.name: _IGNORED}
        for path, text in contents.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            with (folder / path).open("x", encoding="utf-8") as new:
                new.write(text)
    except OSError as problem:
        raise KpipeError(f"{problem.filename or folder} cannot be written: {problem.strerror}") from None
    return list(contents)
