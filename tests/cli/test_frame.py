"""`kpipe` itself: help, options, errors, exit codes and streams; no Kafka needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.main import MODULES
from tests.support.shell import KPIPE, environment, eventually, kpipe, on_terminal, raw, running

GOOD = 'kpipe: 1\npipeline: shop\nkafka: {bootstrap: "127.0.0.1:1"}\ntopics:\n  orders: {dlq: orders.dlq}\n'
BAD = 'kpipe: 1\npipeline: "SHOP\\x1b[31m"\ntopcis: {}\n'
#: What would make `kpipe --help` slow; each takes 20 to 100 ms to import.
HEAVY = {"confluent_kafka", "rich", "yaml", "jsonschema_rs", "psutil", "orjson", "asyncio", "orchestrator.config"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(GOOD)
    return tmp_path


def modules(*words: str, folder: Path | None = None) -> set[str]:
    code = (
        "import sys; from orchestrator.cli.main import main; main(sys.argv[1:]); "
        "sys.stderr.write(' '.join(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("send", "--help"), ("tail", "--help")])
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    loaded = modules(*words)
    assert "click" in loaded
    assert not loaded & HEAVY


def test_help_imports_no_command() -> None:
    loaded = {name for name in modules("--help") if name.startswith("orchestrator.")}
    assert loaded == {
        "orchestrator.cli",
        "orchestrator.cli.context",
        "orchestrator.cli.main",
        "orchestrator.cli.options",
        "orchestrator.cli.render",
        "orchestrator.cli.render.output",
        "orchestrator.errors",
        "orchestrator.text",
    }


#: Beyond what `HEAVY` names: what a command does not need, and what it costs to start all the same.
NO_BROKER = {"orchestrator.brokers.docker", "orchestrator.brokers.local"}
NO_ADMIN = {"confluent_kafka.admin", "orchestrator.kafka.admin.admin", "orchestrator.provisioning"}
NO_SCREEN = {"rich", "jmespath", "prometheus_client", "rstr", "watchfiles", "httpx", "h11"}


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (("validate",), {"confluent_kafka", "psutil"} | NO_BROKER | NO_SCREEN),
        (("ps",), {"confluent_kafka", "jsonschema_rs", "yaml", "orchestrator.contracts"} | NO_BROKER | NO_SCREEN),
        (("send", "nothing", "{}"), NO_ADMIN | NO_BROKER | NO_SCREEN | {"psutil"}),
        (("tail", "orders"), NO_ADMIN | NO_BROKER | NO_SCREEN | {"psutil", "orchestrator.supervisor"}),
    ],
)
def test_a_command_imports_only_what_it_needs(folder: Path, words: tuple[str, ...], without: set[str]) -> None:
    """The budget of each command: modules, which do not depend on how busy the machine is."""
    loaded = modules(*words, folder=folder)
    assert MODULES[words[0]] in loaded
    assert not loaded & without


def test_help_is_data(folder: Path) -> None:
    done = kpipe(folder, "--help")
    assert (done.code, done.err) == (0, "")
    assert "Commands:" in done.out
    assert "  tail " in done.out


def test_no_command_shows_the_help_and_is_a_usage_error(folder: Path) -> None:
    done = kpipe(folder)
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


def test_the_version(folder: Path) -> None:
    assert kpipe(folder, "--version")[:2] == (0, "kpipe 0.1.0\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tial", "orders"), ["no command `tial`", "did you mean `tail`?"]),
        (("frobnicate",), ["no command `frobnicate`", "`kpipe --help` lists the commands"]),
        (("--jsn",), ["'--jsn'", "'--json'", "`kpipe --help`"]),
        (("tail", "orders", "--folow"), ["'--folow'", "`kpipe tail --help`"]),
        (("tail", "orders", "--formt", "x"), ["'--formt'", "Did you mean '--format'?"]),
        (("tail",), ["TOPIC", "`kpipe tail --help`"]),
        (("send", "orders", "{}", "-n", "0"), ["-n", "0"]),
    ],
)
def test_wrong_words_are_two_lines_and_exit_2(folder: Path, words: tuple[str, ...], said: list[str]) -> None:
    done = kpipe(folder, *words)
    assert (done.code, done.out) == (2, "")
    assert all(part in done.err for part in said), done.err
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 2


@pytest.mark.parametrize("words", [("--json", "tail", "orders", "--nope"), ("tail", "orders", "--nope", "--json")])
def test_with_json_an_error_is_one_line_of_json(folder: Path, words: tuple[str, ...]) -> None:
    done = kpipe(folder, *words)
    error = json.loads(done.err)["error"]
    assert error["exit_code"] == done.code == 2
    assert "--nope" in error["message"]
    assert error["hint"]


def test_a_missing_pipeline_file_is_named_with_its_folder(tmp_path: Path) -> None:
    done = kpipe(tmp_path, "tail", "orders")
    assert (done.code, done.out) == (2, "")
    assert f"no pipeline.yaml in {tmp_path}" in done.err
    assert "-f FILE" in done.err


@pytest.mark.parametrize("words", [("-f", "other.yaml", "send", "x"), ("send", "x", "-f", "other.yaml")])
def test_a_given_file_that_is_missing_is_named(folder: Path, words: tuple[str, ...]) -> None:
    done = kpipe(folder, *words)
    assert done.code == 2
    assert "no file other.yaml" in done.err


def test_a_folder_is_no_pipeline_file(folder: Path) -> None:
    done = kpipe(folder, "-f", ".", "send", "x")
    assert done.code == 2
    assert ". is a folder" in done.err


def test_the_file_may_be_named_after_the_command(folder: Path) -> None:
    (folder / "pipeline.yaml").rename(folder / "other.yaml")
    # Found and valid: it gets as far as asking what to send.
    assert "a topic has no example" in kpipe(folder, "send", "orders", "-f", "other.yaml").err
    assert "a topic has no example" in kpipe(folder, "--file", "other.yaml", "send", "orders").err


def test_after_tail_f_follows_and_a_file_there_gets_a_hint(folder: Path) -> None:
    assert "--file FILE" in kpipe(folder, "tail", "--help").out


def test_files_before_and_after_the_command_are_merged_in_order(folder: Path) -> None:
    (folder / "more.yaml").write_text("topics:\n  refunds: {dlq: orders.dlq}\n")
    done = kpipe(folder, "-f", "pipeline.yaml", "send", "refunds", "-f", "more.yaml")
    assert "a topic has no example" in done.err


def test_every_finding_is_printed_with_its_place(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(BAD)
    done = kpipe(folder, "send", "orders")
    assert (done.code, done.out) == (2, "")
    assert "\x1b" not in done.err
    lines = [line for line in done.err.splitlines() if not line.startswith("  ")]
    assert any(line.startswith("pipeline.yaml:3:") and "topcis" in line for line in lines), done.err
    assert any(line.startswith("pipeline.yaml:2:") for line in lines), done.err
    assert lines[-1].endswith("errors in the pipeline file")


def test_findings_in_json(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(BAD)
    error = json.loads(kpipe(folder, "send", "orders", "--json").err)["error"]
    assert {finding["line"] for finding in error["findings"]} >= {2, 3}
    assert set(error["findings"][0]) == {"severity", "code", "file", "line", "column", "message", "hint"}


def test_without_a_broker_it_says_how_to_start_one(folder: Path) -> None:
    (folder / "pipeline.yaml").write_text(GOOD.replace('kafka: {bootstrap: "127.0.0.1:1"}\n', ""))
    done = kpipe(folder, "tail", "orders")
    assert (done.code, done.out) == (4, "")
    assert "kpipe broker start" in done.err
    assert len(done.err.splitlines()) == 2


@pytest.mark.parametrize("words", [("tail", "orders"), ("send", "orders", "{}")])
def test_a_broker_that_is_away_is_named_in_time(folder: Path, words: tuple[str, ...]) -> None:
    done = kpipe(folder, *words, timeout=15)
    assert (done.code, done.out) == (4, "")
    assert "127.0.0.1:1" in done.err
    assert len(done.err.splitlines()) == 2, done.err


@pytest.mark.parametrize("words", [("tail", "orders"), ("send", "orders", "{}")])
def test_a_property_that_no_client_has(folder: Path, words: tuple[str, ...]) -> None:
    text = GOOD.replace('"127.0.0.1:1"', '"127.0.0.1:1", client: {no.such.thing: "1"}')
    (folder / "pipeline.yaml").write_text(text)
    done = kpipe(folder, *words)
    assert done.code == 2, done.err
    assert "no.such.thing" in done.err
    assert "Traceback" not in done.err


BROKEN = (
    "import sys; from orchestrator.cli import main, context; "
    "context.App.project = lambda self: 1 // 0; sys.exit(main.main(sys.argv[1:]))"
)


@pytest.mark.parametrize(
    ("words", "traceback"),
    [(("send", "x"), False), (("--verbose", "send", "x"), True), (("send", "x", "--verbose"), True)],
)
def test_a_bug_is_one_line_and_a_traceback_on_demand(folder: Path, words: tuple[str, ...], traceback: bool) -> None:
    done = subprocess.run([sys.executable, "-c", BROKEN, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1
    assert "unexpected: ZeroDivisionError" in done.stderr
    assert "please report" in done.stderr
    assert ("Traceback" in done.stderr) is traceback


def test_a_bug_in_json(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, "send", "x", "--json"], cwd=folder, capture_output=True, text=True
    )
    assert json.loads(done.stderr)["error"]["exit_code"] == done.returncode == 1


def test_windows_is_told_about_wsl(folder: Path) -> None:
    code = "import sys; from orchestrator.cli.main import main; sys.platform = 'win32'; sys.exit(main(['ps']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert "WSL" in done.stderr


def test_colours_on_a_terminal_only(folder: Path) -> None:
    assert b"\x1b[31;1merror:" in on_terminal(folder, "tial")[1]
    for env, words in (({"NO_COLOR": "1"}, ()), ({"TERM": "dumb"}, ()), ({}, ("--no-color",))):
        code, sent = on_terminal(folder, *words, "tial", env=env)
        assert code == 2
        assert b"\x1b" not in sent
    assert "\x1b" not in kpipe(folder, "tial").err


def test_a_pipe_that_closes_early_is_no_error(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([KPIPE, "--help"], cwd=folder, stdout=write, stderr=subprocess.PIPE, env=environment())
    os.close(write)
    assert done.stderr == b""
    assert done.returncode == 141


def test_a_closed_stdout_is_no_error(folder: Path) -> None:
    done = subprocess.run(f"{KPIPE} --version >&-", shell=True, cwd=folder, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, b"")


def test_ctrl_c_is_130_and_quick(folder: Path) -> None:
    with running(folder, "send", "orders", "{}") as send:
        connecting = Path(f"/proc/{send.child.pid}/task")
        eventually(lambda: len(list(connecting.iterdir())) > 1)  # librdkafka's threads: it is trying
        send.child.send_signal(signal.SIGINT)
        assert send.child.wait(3) == 130
        assert send.child.stderr is not None
        assert send.child.stderr.read() == b""


def test_completion_for_bash(folder: Path) -> None:
    env = {"_KPIPE_COMPLETE": "bash_complete", "COMP_WORDS": "kpipe ta", "COMP_CWORD": "1"}
    assert "plain,tail" in kpipe(folder, env=env).out
    assert b"_KPIPE_COMPLETE=bash_complete" in raw(folder, env={"_KPIPE_COMPLETE": "bash_source"}).stdout
