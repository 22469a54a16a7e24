"""The words for how a child ended."""

from __future__ import annotations

import signal

import pytest

from orchestrator.supervisor.events import Crashed
from orchestrator.supervisor.spec import ChildExit


@pytest.mark.parametrize(
    ("exit", "words", "said"),
    [
        (ChildExit(code=3), "boom", "crashed (exit code 3): boom"),
        (ChildExit(code=3), "", "crashed (exit code 3)"),
        (ChildExit(signal=signal.SIGABRT), "free(): bad", "crashed (killed by SIGABRT): free(): bad"),
        (ChildExit(signal=signal.SIGKILL), "WARNING of an hour ago", "crashed (killed by SIGKILL)"),
        (ChildExit(code=0), "bye", "ended by itself (exit code 0)"),
    ],
)
def test_the_last_words_are_told_where_they_can_be_about_the_end(exit: ChildExit, words: str, said: str) -> None:
    assert Crashed("h", exit, words, 0.5).text() == f"h: {said}; restart in 0.5 s"
