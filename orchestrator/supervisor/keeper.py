"""Keeps one child as its policy says: process, probe, reports, log and timers around one `Life`.

Everything that happens goes through `_apply`: one direction, from an input of policy.py to its actions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestrator.errors import EXIT_RENEWED
from orchestrator.observe import journal
from orchestrator.observe.totals import Totals
from orchestrator.supervisor import events, policy, ports
from orchestrator.supervisor.child import Child, Ears
from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.logs.output import Output, Show
from orchestrator.supervisor.metering import Metering, cause_of
from orchestrator.supervisor.policy import RUNNING, Action, Life, Rules, State, Step
from orchestrator.supervisor.probe import watch
from orchestrator.supervisor.rates import Rates
from orchestrator.supervisor.reports import Status, parse
from orchestrator.supervisor.spec import ChildExit, ChildSpec, StartRefusal

#: A child that is still not ready after so many seconds is worth a word.
SLOW_AFTER = 30.0
#: How often the deadlines of a child's events are looked at, and how far one may be passed: the child itself ends with
#: less, as long as it can do anything at all (seconds).
WATCH_SECONDS = 1.0
OVERDUE_SECONDS = 10.0
#: A status line longer than this is not one.
_LONGEST_REPORT = 1_048_576


class Keeper:
    """One child, from its first start to its last end. `changed` is called after every change of its state."""

    def __init__(
        self,
        spec: ChildSpec,
        rules: Rules,
        logs: Path,
        *,
        hear: Callable[[Fact], None],
        show: Show,
        changed: Callable[[], None],
        broken: Callable[[BaseException], None],
        chance: Callable[[], float],
        totals: Totals,
    ) -> None:
        self.spec = spec
        self.life = Life()
        self.status = Status()
        self.rates = Rates()
        self.metering = Metering(totals)
        #: Why the process before this one ended, for the metrics.
        self._cause = ""
        self._overdue = False
        self.pid: int | None = None
        self.last_error: str | None = None
        self.output = Output(spec.name, logs, hear, show)
        self._rules = _rules_of(rules, spec)
        self._hear, self._changed, self._broken = hear, changed, broken
        self._chance = chance
        self._loop = asyncio.get_running_loop()
        self._child: Child | None = None
        self._probe: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._slow: asyncio.TimerHandle | None = None
        self._journal: Path | None = None
        self._watch: asyncio.TimerHandle | None = None

    @property
    def now(self) -> float:
        return self._loop.time()

    @property
    def patience(self) -> float:
        """Seconds that it has to stop."""
        return self._rules.stop_timeout

    def respecify(self, spec: ChildSpec) -> None:
        """Start it as `spec` says from the next time on. Its name stays."""
        self.spec = spec
        self._rules = _rules_of(self._rules, spec)

    def launch(self) -> None:
        """Start it for the first time."""
        self._apply(policy.launch(self.life, self.now))

    def stop(self) -> None:
        """SIGTERM, and SIGKILL after its stop timeout. Asked twice, nothing more happens."""
        self._apply(policy.stop(self.life, self.now, self._rules))

    def restart(self) -> None:
        """Stop it in order if it runs, and start it afresh."""
        self._cause = "asked"
        self._apply(policy.restart(self.life, self.now, self._rules))

    def hurry(self, seconds: float) -> None:
        """Make `seconds` its stop timeout, also of a stop that has begun."""
        self._rules = replace(self._rules, stop_timeout=seconds)
        self._apply(policy.hurry(self.life, self.now, seconds))

    def kill(self) -> None:
        """SIGKILL now."""
        self._apply(policy.kill(self.life, self.now, self._rules))

    def _apply(self, step: Step) -> None:
        before, self.life = self.life, step.life
        self._set_timer()
        self._tell(before, self.life)
        for action in step.actions:
            self._do(action)
        if self.life.state is not before.state:
            self._changed()

    def _do(self, action: Action) -> None:
        if action is Action.LAUNCH:
            self._launch()
        elif self._child is not None:
            {
                Action.TERMINATE: self._child.terminate,
                Action.KILL: self._child.kill,
                Action.ABANDON: self._child.abandon,
            }[action]()

    def _launch(self) -> None:
        if self.spec.port is not None and ports.in_use(self.spec.port):
            self._could_not(_port_taken(self.spec, self.spec.port))
            return
        self.output.begin()
        self._said, self._status_works = b"", True
        self.status = Status()
        self.rates.begin()
        self.metering.begin()
        self._overdue = False
        self._slow = self._loop.call_later(SLOW_AFTER, self._is_slow)
        ears = Ears(
            output=lambda data: self.output.feed("stdout", data), errors=lambda data: self.output.feed("stderr", data),
            status=self._reported, started=self._started, refused=self._refused, ended=self._ended,
        )  # fmt: skip
        try:
            self._child = Child(self.spec, ears, self._loop)
        except (FileNotFoundError, NotADirectoryError):
            self._could_not(StartRefusal(f"its working folder {self.spec.cwd} does not exist"))
        except OSError as error:  # no room for another process; there may be in a while
            self.output.last_words = f"the system refused to start a process: {error.strerror}"
            self._apply(policy.ended(self.life, ChildExit(), self.now, self._chance(), self._rules))

    def _started(self, pid: int) -> None:
        self.pid = pid
        again = self.life.restarts + self.life.asked > 0
        self._hear(events.Started(self.spec.name, pid, again=again))
        if again:
            self.metering.totals.restarts[self._cause] += 1
        if not self.spec.reports:
            self._probe = self._loop.create_task(watch(self.spec.probe, self._probed))
            self._probe.add_done_callback(self._probe_ended)

    def _probed(self, passed: bool) -> None:
        if self.life.state in RUNNING:
            self._apply((policy.ready if passed else policy.not_ready)(self.life, self.now))

    def _probe_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)

    def _reported(self, data: bytes) -> None:
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            self._report(line)
        if len(self._said) > _LONGEST_REPORT:
            self._said = b""

    def _report(self, line: bytes) -> None:
        try:
            report = parse(line)
        except ValueError as error:
            if self._status_works:
                self._hear(events.BadReport(self.spec.name, str(error)))
            self._status_works = False
            return
        if report.type == "status":
            self.status = report.status
            if report.status.accounting is not None:
                self.rates.saw(self.now, report.status.accounting)
            self.last_error = report.status.last_error or self.last_error
        elif report.type == "metrics":
            self.metering.saw(report.measured)
        elif report.type == "places":
            self.metering.saw_places(report.places)
        elif report.type in ("ready", "not-ready"):
            self.rates.begin()
            self._probed(report.type == "ready")
        elif report.journal is not None:
            self._journal = report.journal
            self._watch_deadlines()
        elif report.refusal is not None:
            self._refused(report.refusal)

    def _watch_deadlines(self) -> None:
        """Kill a child whose event is past its deadline and that does nothing about it itself."""
        if self._child is None or self._journal is None:
            return
        _, deadline = journal.read_live(self._journal)
        if deadline and self.now > deadline + OVERDUE_SECONDS:
            self._hear(events.Overdue(self.spec.name, self.now - deadline))
            journal.mark_hung(self._journal)
            self._overdue = True
            self._child.kill()
            return
        self._watch = self._loop.call_later(WATCH_SECONDS, self._watch_deadlines)

    def _blamed(self) -> bool:
        """Whether the child died with an event running. Its journal stays for its successor."""
        path, self._journal = self._journal, None
        if self._watch is not None:
            self._watch.cancel()
        return path is not None and journal.read_live(path)[0]

    def _refused(self, refusal: StartRefusal) -> None:
        self._apply(policy.refused(self.life, refusal, self.now, self._rules))

    def _could_not(self, refusal: StartRefusal) -> None:
        self._refused(refusal)
        self._apply(policy.ended(self.life, ChildExit(), self.now, self._chance(), self._rules))

    def _ended(self, exit: ChildExit) -> None:
        self._child, self.pid = None, None
        if self._probe is not None:
            self._probe.cancel()
        self.output.end()
        if self.life.state is not State.STOPPING:
            self.last_error = self.output.last_words or exit.text
            self._cause = "hung" if self._overdue else cause_of(exit)
        blamed = self._blamed()
        self._apply(policy.ended(self.life, exit, self.now, self._chance(), self._rules, blamed=blamed))

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self.life.due
        self._timer = None if due is None else self._loop.call_at(due, self._tick)
        if self.life.state is not State.STARTING and self._slow is not None:
            self._slow.cancel()

    def _tick(self) -> None:
        # A timer may come a little early by the clock's resolution; it was set for `due`.
        self._apply(policy.tick(self.life, max(self.now, self.life.due or 0.0), self._rules))

    def _is_slow(self) -> None:
        self._hear(events.Slow(self.spec.name, SLOW_AFTER, self.spec.readiness))

    def _tell(self, before: Life, life: Life) -> None:
        if life.state is not before.state and (fact := self._fact(before, life)) is not None:
            self._hear(fact)

    def _fact(self, before: Life, life: Life) -> Fact | None:
        name, exit = self.spec.name, life.exit or ChildExit()
        match life.state:
            case State.READY:
                return events.Ready(
                    name, self.now - (life.started_at or self.now), again=before.state is State.NOT_READY
                )
            case State.NOT_READY:
                return events.NotReady(name)
            case State.BACKING_OFF if exit.code == EXIT_RENEWED and life.due == life.since:  # at once
                return events.Renewed(name)
            case State.BACKING_OFF:
                return events.Crashed(name, exit, self.output.last_words, (life.due or self.now) - self.now)
            case State.CRASH_LOOP | State.FAILED:
                failures = len(life.failures) if life.state is State.CRASH_LOOP else 1
                return events.GaveUp(name, exit, self.output.last_words, failures, self._rules.loop_window)
            case State.FAILED_TO_START:
                why = life.refusal or StartRefusal("it did not say why")
                return events.CouldNotStart(name, why, life.restarts + life.asked > 0)
            case State.STOPPING:
                return events.Stopping(name, self._rules.stop_timeout)
            case State.STOPPED if before.state is State.STOPPING:
                return events.Stopped(name, exit, life.killed, life.since - before.since)
            case State.STOPPED if life.exit is not None and before.state in RUNNING:
                return events.Finished(name)
        return None


def _rules_of(rules: Rules, spec: ChildSpec) -> Rules:
    return replace(
        rules,
        restart=spec.restart,
        renews=spec.reports,
        must_start=spec.must_start,
        stop_timeout=spec.stop_timeout,
    )


def _port_taken(spec: ChildSpec, port: int) -> StartRefusal:
    holder = ports.holder(port)
    by = f" by {holder}" if holder else ""
    return StartRefusal(
        f"port {port} of {spec.handler} is already in use{by}",
        "stop what uses it, or give the handler another `port`",
    )
