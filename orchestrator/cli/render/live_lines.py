"""Lines on a terminal that are replaced in their place."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from orchestrator.cli.render import output


class Screen:
    """A context manager; what was shown last stays on the terminal."""

    def __init__(self) -> None:
        console = Console(file=sys.stdout, no_color=not output.colored(), highlight=False, soft_wrap=False)
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, why: BaseException | None, at: TracebackType | None) -> None:
        self._live.__exit__(kind, why, at)

    def show(self, lines: Iterable[str]) -> None:
        """Replace what is shown. The first line is the head; lines that are too long are cut."""
        head, *rest = lines
        text = Text(head, style="bold", no_wrap=True, overflow="ellipsis")
        for line in rest:
            text.append(f"\n{line}", style="not bold")
        self._live.update(text, refresh=True)
