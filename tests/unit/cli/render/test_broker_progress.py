from __future__ import annotations

import pytest

from orchestrator.brokers import Progress
from orchestrator.cli.render import output
from orchestrator.cli.render.broker_progress import Steps

MB = 1_000_000


def download(steps: Steps, total: int | None) -> None:
    for done in range(101):
        steps(Progress("Fetching Kafka", done * MB, total))


def test_a_line_per_step(capsys: pytest.CaptureFixture[str]) -> None:
    steps = Steps()
    steps(Progress("Preparing \x1b[31mred"))
    steps(Progress("Starting"))
    assert capsys.readouterr() == ("", "Preparing \\x1b[31mred\nStarting\n")


def test_a_download_is_a_line_per_quarter_where_nothing_moves(capsys: pytest.CaptureFixture[str]) -> None:
    download(Steps(), 100 * MB)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Fetching Kafka: 0 of 100 MB" and lines[-1] == "Fetching Kafka: 100 of 100 MB"
    assert len(lines) == 5


def test_a_download_of_unknown_size(capsys: pytest.CaptureFixture[str]) -> None:
    download(Steps(), None)
    assert capsys.readouterr().err.splitlines() == [f"Fetching Kafka: {n} MB" for n in (0, 25, 50, 75, 100)]


def test_one_moving_line_on_a_terminal_that_is_gone_at_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "animated", lambda: True)
    steps = Steps()
    download(steps, 100 * MB)
    steps(Progress("Unpacking"))
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and " 50%" in shown
    assert shown.endswith("\r\x1b[2KUnpacking\n")
    assert "100%" not in shown


def test_an_error_takes_the_place_of_the_moving_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "animated", lambda: True)
    Steps()(Progress("Fetching Kafka", 1, 3))
    output.say("it broke")
    assert capsys.readouterr().err.endswith("\r\x1b[2Kit broke\n")
