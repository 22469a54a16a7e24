"""Many events in one program's pipe: every one gets its own answer, whatever the program does."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any

import pytest

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed
from orchestrator.event import Event
from orchestrator.records import Record
from orchestrator.worker.runners.command import Command
from orchestrator.worker.runners.exec import ExecChild
from orchestrator.worker.runners.exec_pool import ExecPool
from orchestrator.worker.runners.messages import request_line
from tests.support.programs import NAIVE, each, program


def event(n: int, **more: Any) -> Event:
    value = {"n": n, **more}
    return Event(Record("in", 0, n, 1_700_000_000_000, b"k%d" % n, json.dumps(value).encode(), ()), value)


class Pool:
    """Gives events to a pool and gathers the answers by number."""

    def __init__(self, pool: ExecPool[int]) -> None:
        self.pool = pool
        self.answers: dict[int, Any] = {}

    def give(self, *events: Event) -> None:
        for one in events:
            self.pool.start(one, one.value["n"])

    def wait(self, many: int) -> dict[int, Any]:
        deadline = time.monotonic() + 20
        while len(self.answers) < many and time.monotonic() < deadline:
            try:
                n, answer = self.pool.answers.get(timeout=1)
            except Empty:
                continue
            assert n not in self.answers, f"{n} was answered twice"
            self.answers[n] = answer
        assert len(self.answers) == many, self.answers
        return self.answers

    def done(self) -> list[int]:
        return sorted(n for n, a in self.answers.items() if isinstance(a, list) and a[0].value["n"] == n)

    def verdicts(self) -> dict[int, str]:
        return {n: a.verdict for n, a in self.answers.items() if isinstance(a, Failed)}


@contextmanager
def pool_of(argv: Sequence[str], timeout: float = 10.0, concurrency: int = 1) -> Iterator[Pool]:
    handler = Handler("h", "exec", tuple(argv), "g", timeout=timeout, concurrency=concurrency)
    pool: ExecPool[int] = ExecPool(handler, Command(tuple(argv), Path.cwd(), os.environ), lambda: None, None)
    try:
        yield Pool(pool)
    finally:
        pool.close()


def test_a_naive_program_answers_all() -> None:
    with pool_of(NAIVE) as pool:
        given = 0
        while given < 2_000:
            more = min(2_000, len(pool.answers) + pool.pool.size) - given
            pool.give(*map(event, range(given, given + more)))
            given += more
            pool.wait(given)
        assert pool.done() == list(range(2_000))
        assert pool.pool.size > 16  # it was prompt: it gets more at once


def test_full_pipes_in_both_directions_never_deadlock() -> None:
    big = "x" * 200_000
    with pool_of(NAIVE) as pool:
        pool.give(*(event(n, pad=big) for n in range(40)))
        pool.wait(40)
        assert pool.done() == list(range(40))


def test_a_program_that_answers_in_another_order() -> None:
    batch = """
        held = []
        for line in requests:
            held.append(json.loads(line))
            if len(held) == 5:
                for one in reversed(held):
                    echo(one)
                held.clear()
    """
    with pool_of(program(batch), concurrency=5) as pool:
        pool.give(*map(event, range(10)))
        pool.wait(10)
        assert pool.done() == list(range(10))


def test_late_double_and_invented_replies_match_no_event() -> None:
    strange = """
        say({"id": event["id"] + 1000, "emit": []})
        echo(event)
        say({"id": event["id"], "reject": "twice"})
        say({"id": event["id"] - 1, "reject": "late"})
    """
    with pool_of(each(strange)) as pool:
        pool.give(*map(event, range(50)))
        pool.wait(50)
        assert pool.done() == list(range(50))


def test_a_death_makes_a_suspect_of_the_event_it_worked_on_and_the_rest_runs_on() -> None:
    with pool_of(each("os.kill(os.getpid(), signal.SIGSEGV) if value['n'] == 30 else echo(event)")) as pool:
        pool.give(*map(event, range(200)))
        answers = pool.wait(200)
        assert pool.verdicts() == {30: "crash"}
        assert answers[30].message == "the program ended: signal SIGSEGV"
        assert pool.done() == [n for n in range(200) if n != 30]


def test_a_program_that_works_on_more_than_it_says_is_found_out() -> None:
    """Whatever it dies of is among the suspects in the end, though many others were before it."""
    greedy = """
        import threading
        for line in requests:
            event = json.loads(line)
            if event["value"]["n"] == 30:
                os.kill(os.getpid(), signal.SIGSEGV)
            threading.Timer(0.2, echo, [event]).start()
    """
    with pool_of(program(greedy)) as pool:
        pool.give(*map(event, range(40)))
        pool.wait(40)
        verdicts = pool.verdicts()
        assert verdicts[30] == "crash" and set(verdicts.values()) == {"crash"}
        assert pool.done() == [n for n in range(40) if n not in verdicts]


def test_with_concurrency_all_that_it_had_are_suspects() -> None:
    held = "held = globals().setdefault('held', [])\nheld.append(event)\nlen(held) < 5 or sys.exit(3)"
    with pool_of(each(held), concurrency=5) as pool:
        pool.give(*map(event, range(5)))
        pool.wait(5)
        assert pool.verdicts() == dict.fromkeys(range(5), "crash")


def test_an_event_that_is_read_alone_is_the_only_suspect() -> None:
    """Bash's `read` takes one line at a time out of the pipe: what is behind it goes to the next program."""
    bash = """
        while read -r line <&3; do
            case $line in *'"n": 3}'*) exit 9;; esac
            id=${line#*:}
            echo "{\\"id\\":${id%%,*}}" >&4
        done
    """
    with pool_of(["bash", "-c", bash]) as pool:
        pool.give(*map(event, range(8)))
        answers = pool.wait(8)
        assert pool.verdicts() == {3: "crash"}
        assert answers[3].message == "the program ended: exit code 9"


def test_a_hang_is_a_timeout_of_the_first_unanswered_event_only() -> None:
    with pool_of(each("time.sleep(60) if value['n'] == 3 else echo(event)"), timeout=0.3) as pool:
        pool.give(*map(event, range(10)))
        answers = pool.wait(10)
        assert pool.verdicts() == {3: "timeout"}
        assert "no answer within 0.3 s" in answers[3].message


def test_slow_events_do_not_use_up_the_time_of_those_behind_them() -> None:
    with pool_of(each("time.sleep(0.1); echo(event)"), timeout=0.8) as pool:
        pool.give(*map(event, range(12)))
        pool.wait(12)
        assert pool.done() == list(range(12))
        assert pool.pool.size < 16  # it is slow: it gets fewer at once


def test_a_line_that_is_no_reply_ends_the_program() -> None:
    for said in ('"hello"', '\'{"no": "id"}\'', '\'{"id": "1"}\'', '"[1]"'):
        with pool_of(each(f"say({said}) if value['n'] == 2 else echo(event)")) as pool:
            pool.give(*map(event, range(3)))
            answers = pool.wait(3)
            assert pool.verdicts() == {2: "crash"} and "it said a line" in answers[2].message


def test_a_line_without_an_end() -> None:
    with pool_of(each("replies.write('x' * 100); replies.flush(); time.sleep(60)"), timeout=0.3) as pool:
        pool.give(event(0))
        assert "it had begun a line of 100 bytes" in pool.wait(1)[0].message


def test_a_program_that_cannot_start_blames_no_event() -> None:
    with pool_of(program("sys.exit('no module named shop')")) as pool:
        pool.give(*map(event, range(3)))
        answers = pool.wait(3)
        assert set(pool.verdicts().values()) == {"unavailable"}
        assert answers[0].message.endswith("exit code 1: no module named shop")
    with pool_of(["./there-is-none"]) as pool:
        pool.give(event(0))
        assert "'./there-is-none' was not found" in pool.wait(1)[0].message


def test_a_program_that_ends_between_events_is_started_again() -> None:
    once = "echo(json.loads(os.read(3, 65536)))"
    with pool_of(program(once)) as pool:
        for n in range(3):
            pool.give(event(n))
            pool.wait(n + 1)
        assert pool.done() == [0, 1, 2]


@pytest.mark.parametrize(
    ("body", "verdict", "said"),
    [
        ("echo(event)", None, ""),
        ("sys.exit(3)", "crash", "exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "crash", "signal SIGKILL"),
        ("time.sleep(60)", "timeout", "no answer within 0.5 s"),
        ("say('hello')", "retry", "not JSON: 'hello'"),
        ("say({'id': event['id'], 'reject': 'no'})", "reject", "no"),
    ],
)
def test_one_event_alone(body: str, verdict: str | None, said: str) -> None:
    argv = tuple(each(f"print('last words', file=sys.stderr, flush=True)\n{body}"))
    child = ExecChild(Handler("h", "exec", argv, "g", timeout=0.5), Command(argv, Path.cwd(), os.environ))
    answer = child.run(event(1))
    child.close()
    if verdict is None:
        assert isinstance(answer, list)
    else:
        assert isinstance(answer, Failed) and answer.verdict == verdict and said in answer.message
        assert verdict != "crash" or answer.stack == "last words"


def test_a_request_is_one_line_whatever_the_value() -> None:
    raw = '{\r\n "a": "x\u2028y\u2029",\n "n": 1.10\r}'.encode()
    one = Event(Record("in", 1, 2, 3, b"\xff", raw, (("h", b"\xfe"), ("g", None))), {}, attempt=2)
    line = request_line(one, 7)
    assert len(line.decode().splitlines()) == 1 and b'"n": 1.10' in line
    assert json.loads(line) == {
        "id": 7, "topic": "in", "partition": 1, "offset": 2, "timestamp": 3, "key": None, "keyBase64": "/w==",
        "value": {"a": "x\u2028y\u2029", "n": 1.10}, "headers": [["h", {"base64": "/g=="}], ["g", None]], "attempt": 2,
    }  # fmt: skip
