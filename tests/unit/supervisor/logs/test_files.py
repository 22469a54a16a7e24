from __future__ import annotations

import re
import stat
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.supervisor.logs.files import LogFile
from orchestrator.supervisor.logs.lines import Line

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def test_lines_have_time_stream_and_tag(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "payments.log")
    log.write("stdout", [Line("long", partial=True), Line("end")], NOON)
    log.write("stderr", [Line("oh")])
    log.close()
    first, second, third = (tmp_path / "logs" / "payments.log").read_text().splitlines()
    assert first == "2026-03-01T12:00:00.123456Z stdout P long"
    assert second == "2026-03-01T12:00:00.123456Z stdout F end"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z stderr F oh", third)


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log")
    log.write("stdout", [Line("x")])
    log.close()
    assert stat.S_IMODE((tmp_path / "x.log").stat().st_mode) == 0o600


def test_a_later_run_appends(tmp_path: Path) -> None:
    for text in ("one", "two"):
        log = LogFile(tmp_path / "x.log")
        log.write("stdout", [Line(text)])
        log.close()
    assert [line.split()[-1] for line in (tmp_path / "x.log").read_text().splitlines()] == ["one", "two"]


def test_rotation_keeps_the_newest(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", limit=200, kept=2)
    for number in range(20):
        log.write("stdout", [Line(f"line-{number:03}")], NOON)
    log.close()
    files = [tmp_path / "x.log.2", tmp_path / "x.log.1", tmp_path / "x.log"]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    numbers = [int(line[-3:]) for file in files for line in file.read_text().splitlines()]
    assert numbers == list(range(numbers[0], 20)) and len(numbers) >= 8
    assert all(file.stat().st_size <= 200 for file in files)


def test_one_write_above_the_limit_is_still_whole(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", limit=100, kept=1)
    log.write("stdout", [Line("y" * 500)], NOON)
    log.write("stdout", [Line("z" * 500)], NOON)
    log.close()
    assert (tmp_path / "x.log.1").read_text().count("y") == 500
    assert (tmp_path / "x.log").read_text().count("z") == 500
