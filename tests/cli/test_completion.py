"""`kpipe completion`: the script in a real bash, and the names that are offered."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.shell import KPIPE, environment, kpipe

PIPELINE = """
kpipe: 1
pipeline: shop
topics:
  orders.created: {key: id, dlq: orders.dlq}
  other: {dlq: orders.dlq}
events:
  order: {topic: orders.created}
handlers:
  pay: {python: 'work:handle', consumes: [orders.created]}
  post: {python: 'work:handle', consumes: [other]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "work.py").write_text("def handle(event): ...\n")
    return tmp_path


def offered(folder: Path, *words: str) -> list[str]:
    """What is offered for the last of `words`."""
    env = {"COMP_WORDS": " ".join(("kpipe", *words)), "COMP_CWORD": str(len(words)), "_KPIPE_COMPLETE": "bash_complete"}
    code, out, err = kpipe(folder, env=env)
    assert (code, err) == (0, "")
    return [line.partition(",")[2] for line in out.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("ta",), ["tail"]),
        (("tail", "o"), ["orders.created", "other", "orders.dlq"]),
        (("tail", "other", "o"), ["orders.created", "orders.dlq"]),
        (("tail", "--wh"), ["--where"]),
        (("send", "o"), ["order", "orders.created", "other", "orders.dlq"]),
        (("dlq", "ls", "o"), ["orders.dlq"]),
        (("lag", "p"), ["pay", "post"]),
        (("up", "pa"), ["pay"]),
        (("-f", "pipeline.yaml", "restart", "po"), ["post"]),
        (("completion", "z"), ["zsh"]),
    ],
)
def test_names_of_the_pipeline_are_offered(folder: Path, words: tuple[str, ...], names: list[str]) -> None:
    assert offered(folder, *words) == names


def test_nothing_is_said_where_the_file_is_missing_or_wrong(folder: Path, tmp_path: Path) -> None:
    assert offered(folder, "-f", "nowhere.yaml", "tail", "o") == []
    (folder / "pipeline.yaml").write_text("kpipe: 1\ntopics: [\n")
    assert offered(folder, "tail", "o") == []


def test_in_a_real_bash(folder: Path) -> None:
    script = (
        f'PATH="{Path(KPIPE).parent}:$PATH"; eval "$(kpipe completion bash)"; '
        "COMP_WORDS=(kpipe tail orders.c); COMP_CWORD=2; _kpipe_completion kpipe; "
        'echo "${COMPREPLY[@]}"; complete -p kpipe'
    )
    bash = ["bash", "--norc", "-c", script]
    done = subprocess.run(bash, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    names, registered = done.stdout.splitlines()
    assert names == "orders.created"
    assert "_kpipe_completion" in registered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_script_is_one_that_its_shell_can_read(tmp_path: Path, shell: str) -> None:
    code, out, err = kpipe(tmp_path, "completion", shell)
    assert (code, err) == (0, "")
    assert "_KPIPE_COMPLETE" in out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out, text=True, timeout=30, check=True)


def test_other_shells_are_refused(tmp_path: Path) -> None:
    done = kpipe(tmp_path, "completion", "tcsh")
    assert (done.code, done.out) == (2, "")
    assert "bash" in done.err
