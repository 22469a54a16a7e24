"""Histories replayed: what happened to a child, and what the policy made of it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.supervisor import policy
from orchestrator.supervisor.policy import MOVES, OVER, Action, Life, Move, Rules, State
from orchestrator.supervisor.spec import ChildExit, StartRefusal

CRASH = ChildExit(code=1)
DONE = ChildExit(code=0)
SEGV = ChildExit(signal=11)


@dataclass
class History:
    """Feeds a policy with what happens, at times that the test chooses."""

    rules: Rules = field(default_factory=Rules)
    chance: float = 0.5
    life: Life = field(default_factory=Life)
    now: float = 0.0
    actions: list[Action] = field(default_factory=list)

    def at(self, now: float) -> History:
        self.now = now
        return self

    def happens(self, what: object) -> State:
        step = self._step(what)
        self.life = step.life
        self.actions += step.actions
        return self.life.state

    def _step(self, what: object) -> policy.Step:
        match what:
            case "launch":
                return policy.launch(self.life, self.now)
            case "ready":
                return policy.ready(self.life, self.now)
            case "not ready":
                return policy.not_ready(self.life, self.now)
            case "stop":
                return policy.stop(self.life, self.now, self.rules)
            case "kill":
                return policy.kill(self.life, self.now, self.rules)
            case "tick":
                return policy.tick(self.life, self.now, self.rules)
            case "restart":
                return policy.restart(self.life, self.now, self.rules)
            case "hurry":
                return policy.hurry(self.life, self.now, 1.0)
            case ChildExit():
                return policy.ended(self.life, what, self.now, self.chance, self.rules)
            case StartRefusal():
                return policy.refused(self.life, what, self.now, self.rules)
        raise AssertionError(what)


NO_MODULE = StartRefusal("no module named x")
LAUNCH, TERM, KILL, ABANDON = Action.LAUNCH, Action.TERMINATE, Action.KILL, Action.ABANDON

# name, rules, [(time, what happens, state afterwards, actions asked for)]
HISTORIES = [
    (
        "a good life",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "ready", "ready", []),
            (5, "not ready", "not-ready", []),
            (6, "ready", "ready", []),
            (9, "stop", "stopping", [TERM]),
            (10, DONE, "stopped", []),
            (11, "stop", "stopped", []),
        ],
    ),
    (
        "not ready before it was ready is still starting",
        Rules(),
        [(0, "launch", "starting", [LAUNCH]), (1, "not ready", "starting", []), (2, "ready", "ready", [])],
    ),
    (
        "a crash, its backoff, and the restart",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "ready", "ready", []),
            (2, CRASH, "backing-off", []),
            (2.4, "tick", "backing-off", []),
            (2.5, "tick", "starting", [LAUNCH]),
            (3, "ready", "ready", []),
        ],
    ),
    (
        "a service that ends with 0 by itself is started again",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "ready", "ready", []),
            (2, DONE, "backing-off", []),
            (2.5, "tick", "starting", [LAUNCH]),
        ],
    ),
    (
        "a worker whose topics were made anew is started again at once, and nothing has failed; over and over, later",
        Rules(restart=False, renews=True, loop_failures=2, renewals=2),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "ready", "ready", []),
            (2, ChildExit(code=77), "backing-off", []),
            (2, "tick", "starting", [LAUNCH]),
            (2.4, "ready", "ready", []),
            (2.5, ChildExit(code=77), "backing-off", []),
            (2.5, "tick", "starting", [LAUNCH]),
            (2.8, "ready", "ready", []),
            (3, ChildExit(code=77), "backing-off", []),
            (3.4, "tick", "backing-off", []),
            (3.5, "tick", "starting", [LAUNCH]),
            (3.8, "ready", "ready", []),
            (4, "stop", "stopping", [TERM]),
            (5, ChildExit(code=77), "stopped", []),
        ],
    ),
    (
        "a worker that ends with 77 before it was ready is none of them",
        Rules(renews=True),
        [
            (0, "launch", "starting", [LAUNCH]),
            (2, ChildExit(code=77), "backing-off", []),
            (2, "tick", "backing-off", []),
        ],
    ),
    (
        "of anything else, 77 is a code like others",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (2, ChildExit(code=77), "backing-off", []),
            (2, "tick", "backing-off", []),
        ],
    ),
    (
        "without restart an end with 0 is fine",
        Rules(restart=False),
        [(0, "launch", "starting", [LAUNCH]), (1, "ready", "ready", []), (2, DONE, "stopped", [])],
    ),
    (
        "without restart a crash is a failure for good",
        Rules(restart=False),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, SEGV, "failed", []),
            (2, "stop", "failed", []),
            (3, "tick", "failed", []),
        ],
    ),
    (
        "could not start, told by the exit code",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, ChildExit(code=78), "failed-to-start", []),
            (99, "tick", "failed-to-start", []),
        ],
    ),
    (
        "could not start, told by itself; the exit code no longer matters",
        Rules(),
        [(0, "launch", "starting", [LAUNCH]), (1, NO_MODULE, "starting", []), (2, CRASH, "failed-to-start", [])],
    ),
    (
        "one that could not start and does not end gets killed",
        Rules(refusal_grace=5),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, NO_MODULE, "starting", []),
            (5.9, "tick", "starting", []),
            (6, "tick", "starting", [KILL]),
            (6.1, ChildExit(signal=9), "failed-to-start", []),
        ],
    ),
    (
        "exit code 78 of one that was ready is a crash",
        Rules(),
        [(0, "launch", "starting", [LAUNCH]), (1, "ready", "ready", []), (2, ChildExit(code=78), "backing-off", [])],
    ),
    (
        "one that must start, and did not",
        Rules(must_start=True),
        [(0, "launch", "starting", [LAUNCH]), (1, CRASH, "failed-to-start", [])],
    ),
    (
        "one that must start, and did, is restarted like the others",
        Rules(must_start=True),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "ready", "ready", []),
            (2, CRASH, "backing-off", []),
            (2.5, "tick", "starting", [LAUNCH]),
            (3, CRASH, "backing-off", []),
        ],
    ),
    (
        "the fifth failure in a minute is a crash loop",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (0.1, CRASH, "backing-off", []),
            (0.6, "tick", "starting", [LAUNCH]),
            (0.7, SEGV, "backing-off", []),
            (1.7, "tick", "starting", [LAUNCH]),
            (1.8, CRASH, "backing-off", []),
            (3.8, "tick", "starting", [LAUNCH]),
            (3.9, DONE, "backing-off", []),
            (7.9, "tick", "starting", [LAUNCH]),
            (8, CRASH, "crash-loop", []),
            (999, "tick", "crash-loop", []),
            (999, "stop", "crash-loop", []),
        ],
    ),
    (
        "SIGKILL after the stop timeout, once",
        Rules(stop_timeout=30, kill_grace=2),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "ready", "ready", []),
            (10, "stop", "stopping", [TERM]),
            (11, "stop", "stopping", []),
            (39.9, "tick", "stopping", []),
            (40, "tick", "stopping", [KILL]),
            (41, "kill", "stopping", []),
            (41.9, "tick", "stopping", []),
            (42, "tick", "stopping", [ABANDON]),
            (43, "tick", "stopping", []),
            (44, ChildExit(), "stopped", []),
        ],
    ),
    (
        "a second Ctrl-C does not wait",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "stop", "stopping", [TERM]),
            (2, "kill", "stopping", [KILL]),
            (2.1, "kill", "stopping", []),
            (3, ChildExit(signal=9), "stopped", []),
        ],
    ),
    (
        "killed without having been asked to stop",
        Rules(),
        [(0, "launch", "starting", [LAUNCH]), (1, "kill", "stopping", [KILL]), (2, ChildExit(signal=9), "stopped", [])],
    ),
    (
        "a stop ends a backoff",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, CRASH, "backing-off", []),
            (1.1, "stop", "stopped", []),
            (9, "tick", "stopped", []),
        ],
    ),
    ("a stop before the start", Rules(), [(0, "stop", "stopped", []), (1, "tick", "stopped", [])]),
    (
        "a crash while stopping is no crash",
        Rules(),
        [(0, "launch", "starting", [LAUNCH]), (1, "stop", "stopping", [TERM]), (2, CRASH, "stopped", [])],
    ),
    (
        "a restart stops it in order, and starts it when it has ended",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "ready", "ready", []),
            (2, "restart", "stopping", [TERM]),
            (3, "restart", "stopping", []),
            (4, CRASH, "starting", [LAUNCH]),
            (5, "ready", "ready", []),
            (6, "stop", "stopping", [TERM]),
            (7, DONE, "stopped", []),
        ],
    ),
    (
        "a restart wakes what rests, and its past is forgotten",
        Rules(loop_failures=2),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, CRASH, "backing-off", []),
            (1.5, "tick", "starting", [LAUNCH]),
            (2, CRASH, "crash-loop", []),
            (3, "restart", "starting", [LAUNCH]),
            (4, CRASH, "backing-off", []),
            (4.1, "restart", "starting", [LAUNCH]),
        ],
    ),
    (
        "a stop after a restart was asked for is a stop",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "restart", "stopping", [TERM]),
            (2, "stop", "stopping", []),
            (3, DONE, "stopped", []),
        ],
    ),
    (
        "a stop can be hurried, never drawn out",
        Rules(stop_timeout=30),
        [
            (0, "hurry", "waiting", []),
            (0, "launch", "starting", [LAUNCH]),
            (1, "stop", "stopping", [TERM]),
            (5, "hurry", "stopping", []),
            (6, "tick", "stopping", [KILL]),
            (6.5, "hurry", "stopping", []),
            (8, "tick", "stopping", [ABANDON]),
        ],
    ),
    (
        "what it says while stopping changes nothing",
        Rules(),
        [
            (0, "launch", "starting", [LAUNCH]),
            (1, "stop", "stopping", [TERM]),
            (2, "ready", "stopping", []),
            (3, "not ready", "stopping", []),
        ],
    ),
]


@pytest.mark.parametrize(("rules", "rows"), [h[1:] for h in HISTORIES], ids=[h[0] for h in HISTORIES])
def test_history(rules: Rules, rows: list[tuple[float, object, str, list[Action]]]) -> None:
    history = History(rules)
    for now, what, state, actions in rows:
        history.actions = []
        assert (history.at(now).happens(what), history.actions) == (state, actions), (now, what)


def test_backoff_doubles_and_is_reset_by_a_healthy_minute() -> None:
    history = History(Rules(loop_failures=100))
    history.happens("launch")
    delays = []
    for _ in range(9):
        history.at(history.now + 1).happens(CRASH)
        assert history.life.due is not None
        delays.append(history.life.due - history.now)
        history.at(history.life.due).happens("tick")
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]

    history.happens("ready")
    history.at(history.now + 59.9).happens(CRASH)
    assert history.life.due == pytest.approx(history.now + 30), "59.9 s of health do not count"
    history.at(history.life.due).happens("tick")
    history.happens("ready")
    history.at(history.now + 60.1).happens(CRASH)
    assert history.life.due == pytest.approx(history.now + 0.5)


def test_a_rebalance_does_not_end_the_healthy_time() -> None:
    history = History()
    history.happens("launch")
    history.at(1).happens(CRASH)
    history.at(1.5).happens("tick")
    history.at(2).happens("ready")
    history.at(61).happens("not ready")
    history.at(61.5).happens("ready")
    history.at(62).happens(CRASH)
    assert history.life.streak == 1


def test_old_failures_are_no_crash_loop() -> None:
    history = History()
    history.happens("launch")
    for start in range(0, 16 * 20, 16):  # never five within a minute
        history.at(start).happens(CRASH)
        assert history.life.state is State.BACKING_OFF
        assert len(history.life.failures) <= 4
        history.life = policy.launch(history.life, start + 1).life


def test_restarts_are_counted() -> None:
    history = History()
    history.happens("launch")
    assert history.life.restarts == 0
    history.happens(CRASH)
    history.at(1).happens("tick")
    assert history.life.restarts == 1


def test_why_it_could_not_start_is_kept() -> None:
    history = History()
    history.happens("launch")
    history.happens(NO_MODULE)
    history.happens(ChildExit(code=78))
    assert history.life.refusal == NO_MODULE


@given(
    streak=st.integers(1, 10**6),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_backoff_stays_in_its_bounds(streak: int, chance: float) -> None:
    delay = policy.backoff(streak, chance, Rules())
    plain = min(0.5 * 2.0 ** min(streak - 1, 60), 30.0)
    assert 0.8 * plain <= delay <= min(1.2 * plain, 30.0)


def test_a_handler_that_ends_its_process_with_77_is_no_renewal() -> None:
    """A worker that renews itself has no event any more: `os._exit(77)` in a handler would run again without end."""
    rules = Rules(renews=True)
    life = policy.ready(policy.launch(Life(), 0).life, 1).life
    assert policy.ended(life, ChildExit(code=77), 2, 0.5, rules).life.due == 2
    blamed = policy.ended(life, ChildExit(code=77), 2, 0.5, rules, blamed=True).life
    assert blamed.due == 2.5
    assert blamed.streak == 1


EVENTS = st.sampled_from(
    [
        "launch",
        "ready",
        "not ready",
        "stop",
        "kill",
        "restart",
        "hurry",
        "tick",
        CRASH,
        DONE,
        SEGV,
        ChildExit(code=77),
        ChildExit(code=78),
        ChildExit(),
        NO_MODULE,
    ]
)


@given(
    rules=st.builds(Rules, restart=st.booleans(), renews=st.booleans(), must_start=st.booleans()),
    events=st.lists(st.tuples(st.floats(0, 100), EVENTS), max_size=40),
)
def test_any_history_keeps_the_promises(rules: Rules, events: list[tuple[float, object]]) -> None:
    """As the loop feeds it: an end only of what runs, a launch only of what waits."""
    history = History(rules)
    alive = False
    per_life: list[Action] = []
    for wait, what in events:
        runs = history.life.state in policy.RUNNING
        if (isinstance(what, ChildExit) or what in ("ready", "not ready")) and not runs:
            continue
        if what == "launch" and history.life.state is not State.WAITING:
            continue
        if isinstance(what, StartRefusal) and not runs and history.life.state not in (State.WAITING, State.BACKING_OFF):
            continue
        was_over = history.life.state in OVER
        history.actions = []
        history.at(history.now + wait).happens(what)
        if isinstance(what, ChildExit):
            alive = False
        for action in history.actions:
            if action is LAUNCH:
                assert not alive, "two processes of one child"
                alive, per_life = True, []
            else:
                assert alive, f"{action} for a process that is gone"
                per_life.append(action)
                assert per_life.count(action) == 1, f"{action} twice"
        assert alive == (history.life.state in policy.RUNNING)
        if what != "restart":
            assert not was_over or (history.life.state in OVER and not history.actions), "it came back"
        assert history.life.state is not State.BACKING_OFF or history.life.due is not None
        assert history.life.state is not State.STOPPING or history.life.due is not None or history.life.abandoned


def test_the_table_is_closed() -> None:
    assert set(MOVES) == set(State)
    for state in OVER:
        assert MOVES[state] == {Move.STOP: state, Move.LAUNCH: State.STARTING}, "only a person starts it again"
