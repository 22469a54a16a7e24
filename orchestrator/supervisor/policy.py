"""When a child is started, restarted, given up and killed. DESIGN section 8.

Rules of this file:
- Pure: no clock, no chance, no process. `now` (seconds of a monotonic clock) and `chance` (uniform in [0, 1)) are
  arguments; the answer is a new `Life` and what to do.
- `MOVES` is the whole state machine. What an exit means is decided before, in `_verdict_on`, by a ladder whose
  first match wins; a move that is not in the table does not exist.
- SIGTERM and SIGKILL are asked for once per life.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from orchestrator.delivery.backoff import delay_of
from orchestrator.errors import EXIT_COULD_NOT_START, EXIT_RENEWED
from orchestrator.supervisor.spec import ChildExit, StartRefusal


class State(StrEnum):
    """The states that `kpipe ps` shows."""

    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    NOT_READY = "not-ready"
    BACKING_OFF = "backing-off"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    FAILED_TO_START = "failed-to-start"
    CRASH_LOOP = "crash-loop"


#: States in which there is a process, in which none will ever be again, and those of the latter that are failures.
RUNNING = frozenset({State.STARTING, State.READY, State.NOT_READY, State.STOPPING})
FAILURES = frozenset({State.FAILED, State.FAILED_TO_START, State.CRASH_LOOP})
OVER = FAILURES | {State.STOPPED}


class Move(StrEnum):
    """What changes a state."""

    LAUNCH = "launch"
    READY = "ready"
    NOT_READY = "not ready"
    STOP = "stop"
    ENDED = "ended"
    FAILED = "failed"
    REFUSED = "refused"
    RETRY = "retry"
    GIVE_UP = "give up"


_ENDS = {
    Move.STOP: State.STOPPING,
    Move.ENDED: State.STOPPED,
    Move.FAILED: State.FAILED,
    Move.REFUSED: State.FAILED_TO_START,
    Move.RETRY: State.BACKING_OFF,
    Move.GIVE_UP: State.CRASH_LOOP,
}

#: Only a person revives what is over (`restart`); it may then find that it cannot start.
_REVIVED = {Move.LAUNCH: State.STARTING}

MOVES: dict[State, dict[Move, State]] = {
    State.WAITING: {
        Move.LAUNCH: State.STARTING,
        Move.REFUSED: State.FAILED_TO_START,
        Move.STOP: State.STOPPED,
    },
    State.STARTING: {**_ENDS, Move.READY: State.READY, Move.NOT_READY: State.STARTING},
    State.READY: {**_ENDS, Move.READY: State.READY, Move.NOT_READY: State.NOT_READY},
    State.NOT_READY: {**_ENDS, Move.READY: State.READY, Move.NOT_READY: State.NOT_READY},
    State.BACKING_OFF: {
        Move.LAUNCH: State.STARTING,
        Move.REFUSED: State.FAILED_TO_START,
        Move.STOP: State.STOPPED,
    },
    State.STOPPING: {
        Move.READY: State.STOPPING,
        Move.NOT_READY: State.STOPPING,
        Move.STOP: State.STOPPING,
        Move.ENDED: State.STOPPED,
        Move.LAUNCH: State.STARTING,
    },
    State.STOPPED: {Move.STOP: State.STOPPED, **_REVIVED},
    State.FAILED: {Move.STOP: State.FAILED, **_REVIVED},
    State.FAILED_TO_START: {Move.STOP: State.FAILED_TO_START, **_REVIVED},
    State.CRASH_LOOP: {Move.STOP: State.CRASH_LOOP, **_REVIVED},
}


class Action(StrEnum):
    """What the loop has to do now."""

    LAUNCH = "launch"
    TERMINATE = "terminate"
    KILL = "kill"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers, in seconds. Without `restart` a child is never started again; with `must_start` an end before it
    was ready for the first time means that it could not start. One that `renews` may end with EXIT_RENEWED to be
    started again: at once for the first `renewals` times within `loop_window`."""

    restart: bool = True
    renews: bool = False
    renewals: int = 3
    must_start: bool = False
    stop_timeout: float = 30.0
    first_delay: float = 0.5
    longest_delay: float = 30.0
    healthy_after: float = 60.0
    loop_failures: int = 5
    loop_window: float = 60.0
    refusal_grace: float = 5.0
    kill_grace: float = 2.0


@dataclass(frozen=True, slots=True)
class Life:
    """A child's state and what of its history still matters.

    `failures` are the times of recent failures; `streak` counts failures since it was last healthy; `ready_at` is
    when this life's process first became ready; `due` is when the next `tick` is wanted. `again`: it stops in order
    to be started again; `asked` is how often a person had it started again, which `restarts` does not count.
    `renewals` are the times of recent renewals.
    """

    state: State = State.WAITING
    since: float = 0.0
    started_at: float | None = None
    ready_at: float | None = None
    failures: tuple[float, ...] = ()
    streak: int = 0
    restarts: int = 0
    due: float | None = None
    refusal: StartRefusal | None = None
    exit: ChildExit | None = None
    terminated: bool = False
    killed: bool = False
    abandoned: bool = False
    again: bool = False
    asked: int = 0
    renewals: tuple[float, ...] = ()


class Step(NamedTuple):
    """The child's next life, and what to do about it."""

    life: Life
    actions: tuple[Action, ...] = ()


def launch(life: Life, now: float) -> Step:
    """The child is to be started, for the first time or after its backoff."""
    again = life.state is State.BACKING_OFF
    fresh = replace(
        _moved(life, Move.LAUNCH, now),
        started_at=now, ready_at=None, due=None, exit=None, restarts=life.restarts + again,
    )  # fmt: skip
    return Step(fresh, (Action.LAUNCH,))


def ready(life: Life, now: float) -> Step:
    """The child says, or its probe found, that it does its work."""
    moved = _moved(life, Move.READY, now)
    return Step(moved if life.ready_at is not None else replace(moved, ready_at=now))


def not_ready(life: Life, now: float) -> Step:
    """The child runs, but does not do its work for now."""
    return Step(_moved(life, Move.NOT_READY, now))


def refused(life: Life, refusal: StartRefusal, now: float, rules: Rules) -> Step:
    """The child could not start. One that says so itself is about to end; it gets `refusal_grace` for that."""
    if life.state in RUNNING:
        return Step(replace(life, refusal=refusal, due=life.due or now + rules.refusal_grace))
    return Step(replace(_moved(life, Move.REFUSED, now), refusal=refusal, due=None))


def ended(life: Life, exit: ChildExit, now: float, chance: float, rules: Rules, *, blamed: bool = False) -> Step:
    """The process is gone, and everything that it had started with it.

    `blamed`: an event was running in it. Its next life deals with that event; the death is no part of a crash loop.
    """
    if life.state is State.STOPPING and life.again:
        return _afresh(life, now)
    if _is_renewal(life, exit, rules) and not blamed:
        return _renewed(life, exit, now, chance, rules)
    healthy = life.ready_at is not None and now - life.ready_at >= rules.healthy_after
    streak = 1 if healthy or blamed else life.streak + 1
    failures = tuple(at for at in life.failures if now - at < rules.loop_window)
    failures = failures if blamed else (*failures, now)
    verdict = _verdict_on(life, exit, len(failures), rules)
    moved = replace(_moved(life, verdict, now), exit=exit, due=None)
    if verdict is Move.ENDED:
        return Step(moved)
    moved = replace(moved, failures=failures, streak=streak)
    if verdict is Move.RETRY:
        moved = replace(moved, due=now + backoff(streak, chance, rules))
    if verdict is Move.REFUSED and life.refusal is None:
        moved = replace(moved, refusal=StartRefusal(exit.text))
    return Step(moved)


def restart(life: Life, now: float, rules: Rules) -> Step:
    """A person wants it started afresh: stopped in order first if it runs, whatever became of it before."""
    if life.state not in RUNNING:
        return _afresh(life, now)
    step = stop(life, now, rules)
    return Step(replace(step.life, again=True), step.actions)


def hurry(life: Life, now: float, seconds: float) -> Step:
    """What is being stopped gets at most `seconds` from now on."""
    if life.state is not State.STOPPING or life.killed or life.due is None:
        return Step(life)
    return Step(replace(life, due=min(life.due, now + seconds)))


def stop(life: Life, now: float, rules: Rules) -> Step:
    """The child is no longer wanted: SIGTERM, and SIGKILL after its stop timeout."""
    life = replace(life, again=False)
    if life.state not in RUNNING or life.terminated:
        return Step(replace(_moved(life, Move.STOP, now), due=life.due if life.state in RUNNING else None))
    moved = replace(_moved(life, Move.STOP, now), terminated=True, due=now + rules.stop_timeout)
    return Step(moved, (Action.TERMINATE,))


def kill(life: Life, now: float, rules: Rules) -> Step:
    """The child is to be gone at once."""
    life = replace(life, again=False)
    if life.state not in RUNNING:
        return Step(replace(_moved(life, Move.STOP, now), due=None))
    if life.killed:
        return Step(life)
    moved = replace(_moved(life, Move.STOP, now), terminated=True, killed=True, due=now + rules.kill_grace)
    return Step(moved, (Action.KILL,))


def tick(life: Life, now: float, rules: Rules) -> Step:
    """`due` may have come: the end of a backoff, of a stop timeout, or of the patience with a kill."""
    if life.due is None or now < life.due:
        return Step(life)
    if life.state is State.BACKING_OFF:
        return launch(life, now)
    if not life.killed:
        return Step(replace(life, killed=True, due=now + rules.kill_grace), (Action.KILL,))
    # Even SIGKILL waits for a process that is stuck inside the kernel. Nothing more can be done about that one.
    return Step(replace(life, abandoned=True, due=None), (Action.ABANDON,))


def backoff(streak: int, chance: float, rules: Rules) -> float:
    """Seconds before the restart that follows the `streak`th failure in a row."""
    return min(delay_of(streak, rules.first_delay, rules.longest_delay, chance), rules.longest_delay)


def _afresh(life: Life, now: float) -> Step:
    """The first start of a new life. Past failures do not count any more."""
    state = _moved(life, Move.LAUNCH, now).state
    fresh = Life(state=state, since=now, started_at=now, restarts=life.restarts, asked=life.asked + 1)
    return Step(fresh, (Action.LAUNCH,))


def _is_renewal(life: Life, exit: ChildExit, rules: Rules) -> bool:
    """A worker that renews itself was ready, and has let go of its event: else the handler's code ended it with 77."""
    running = life.state is not State.STOPPING
    return rules.renews and exit.code == EXIT_RENEWED and running and life.ready_at is not None


def _renewed(life: Life, exit: ChildExit, now: float, chance: float, rules: Rules) -> Step:
    """Started again at once; later, and each time later, when it goes on (brokers that disagree about a topic's id)."""
    renewals = (*(at for at in life.renewals if now - at < rules.loop_window), now)
    excess = len(renewals) - rules.renewals
    due = now if excess <= 0 else now + backoff(excess, chance, rules)
    return Step(replace(_moved(life, Move.RETRY, now), exit=exit, due=due, renewals=renewals))


def _verdict_on(life: Life, exit: ChildExit, recent: int, rules: Rules) -> Move:
    if life.state is State.STOPPING:
        return Move.ENDED
    if life.refusal is not None or (exit.code == EXIT_COULD_NOT_START and life.ready_at is None):
        return Move.REFUSED
    if rules.must_start and life.ready_at is None and life.restarts == life.asked == 0:
        return Move.REFUSED
    if not rules.restart:
        return Move.ENDED if exit.code == 0 else Move.FAILED
    # A service that ends with 0 by itself is gone all the same, and so are its users' requests.
    return Move.GIVE_UP if recent >= rules.loop_failures else Move.RETRY


def _moved(life: Life, move: Move, now: float) -> Life:
    state = MOVES[life.state][move]
    return life if state is life.state else replace(life, state=state, since=now)
