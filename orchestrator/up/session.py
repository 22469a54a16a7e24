"""One `kpipe up`, from the lock to the exit code.

The order of things: lock · what can be checked without starting anything · Kafka · topics · handlers · until somebody
or something asks for the end · handlers in reverse, Kafka last · lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.config.model import Handler, Pipeline
from orchestrator.errors import (
    EXIT_BROKER,
    EXIT_CLOSED_OUTPUT,
    EXIT_UNEXPECTED,
    BrokerError,
    HandlerError,
    KpipeError,
    UsageError,
)
from orchestrator.outside import shown
from orchestrator.serving import Hosts
from orchestrator.supervisor import events, ports
from orchestrator.supervisor.background import in_background
from orchestrator.supervisor.control.lock import Lock, claim_socket, remove_socket
from orchestrator.supervisor.control.server import serve, serve_port
from orchestrator.supervisor.ending import Ending
from orchestrator.supervisor.events import Fact
from orchestrator.supervisor.supervisor import Supervisor
from orchestrator.up import child_specs
from orchestrator.up.broker import BrokerSource
from orchestrator.up.control_routes import ControlRoutes
from orchestrator.up.project_files import find_in_file, read_again
from orchestrator.up.publish_endpoint import NAME as PUBLISHING
from orchestrator.up.publish_endpoint import PublishEndpoint
from orchestrator.up.replicas import Replicas, find
from orchestrator.up.reporting import Handover, OpenReporter
from orchestrator.up.signals import heeded_signals, keep_standard_streams, signals_end_it

#: A plain `-d` returns when all is ready, or after so many seconds: most of what cannot start shows by then.
SETTLING = 3.0
#: How long the search for the reason of a failed start may hold up the stop (seconds).
_LAST_WORDS = 5.0


@dataclass(frozen=True)
class UpOptions:
    """What this `up` was asked to do."""

    pipeline: Pipeline
    files: tuple[Path, ...]
    handlers: tuple[Handler, ...]
    sync: bool
    #: Every handler counts as essential.
    fatal: bool = False
    #: Where on this machine Prometheus finds the metrics; None: on the control socket only, 0: on any free port.
    metrics_port: int | None = None
    #: The handlers that were named; none: all of them.
    named: tuple[str, ...] = ()
    #: Changes of the project's files are put into effect.
    watch: bool = False
    #: With `up -d`: who waits for it.
    handover: Handover | None = None


def run(order: UpOptions, ground: BrokerSource, reporter: OpenReporter) -> int:
    """Run it to its end; returns the exit code. Raises `KpipeError` for what went wrong."""
    keep_standard_streams()
    began = datetime.now(UTC)
    lock = Lock(order.pipeline.state_dir, began)
    try:
        child_specs.check_before_start(order.handlers, order.pipeline, os.environ)
        with signals_end_it():
            ground.prepare()
        try:
            return asyncio.run(Session(order, ground, reporter, began).run())
        finally:
            # The end has begun; one more request for it must not cut it short.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            ground.finish()
    finally:
        lock.close()


class Session:
    """The part that runs on the event loop."""

    def __init__(self, order: UpOptions, ground: BrokerSource, reporter: OpenReporter, began: datetime) -> None:
        self._order = order
        self._ground = ground
        self._open_reporter = reporter
        self._began = began
        self._bootstrap = ""
        self._trouble: BaseException | None = None
        self._watching: asyncio.Task[None] | None = None
        #: What the publish endpoint goes by: that of the order, until --watch or a restart brings another one.
        self._pipeline = order.pipeline
        self._state_dir = order.pipeline.state_dir
        self._renewing = asyncio.Lock()

    async def run(self) -> int:
        """Until everything has stopped."""
        self._loop = asyncio.get_running_loop()
        names = [name for handler in self._order.handlers for name in child_specs.names(handler)]
        logs = self._state_dir / "logs"
        self._reporter = self._open_reporter([*names, *self._ground.names], logs, self._nobody_reads)
        self._publishing = PublishEndpoint(self._order.handlers)
        self._supervisor = Supervisor(logs, hear=self._hear, show=self._reporter.show, patient=self._order.watch)
        self._fleet = Replicas(self._order.pipeline, self._order.handlers, self._supervisor, self._order.fatal)
        self._loop.set_exception_handler(self._unexpected)
        for number in heeded_signals():
            self._loop.add_signal_handler(number, self._signalled, number)
        try:
            path = self._socket = claim_socket(self._state_dir)
            try:
                requests = self._requests()
                async with serve(path, requests.routes, self._told_of("control socket")), self._metrics(requests):
                    await self._up_and_down()
            finally:
                remove_socket(path)
            return self._judged()
        finally:
            self._publishing.close()
            self._reporter.close()

    @contextlib.asynccontextmanager
    async def _metrics(self, requests: ControlRoutes) -> AsyncIterator[None]:
        port = self._order.metrics_port
        if port is None:
            yield
            return
        try:
            server = serve_port(port, requests.metrics, Hosts.of(os.environ), self._told_of("metrics"))
        except OSError as error:
            holder = ports.holder(port)
            raise UsageError(
                f"port {port} for the metrics cannot be had: {f'{holder} has it' if holder else error.strerror}",
                "give another one: --metrics-port PORT, or 0 for any that is free",
            ) from error
        async with server:
            self._reporter.say(f"metrics: http://127.0.0.1:{server.port}/metrics")
            yield

    def _told_of(self, listener: str) -> Callable[[str], None]:
        return lambda text: self._reporter.say(f"{listener}: {text}")

    def _judged(self) -> int:
        """The verdict, which of a detached `up` only its log hears."""
        try:
            code = self._verdict()
        except KpipeError as problem:
            self._reporter.note(f"error: {problem.message}")
            self._reporter.note(f"ended with {problem.exit_code}")
            raise
        self._reporter.note(f"ended with {code}")
        return code

    async def _up_and_down(self) -> None:
        up = self._loop.create_task(self._bring_up())
        up.add_done_callback(self._brought_up)
        why = await self._supervisor.asked_to_stop()
        if why.reason:
            self._reporter.say(f"stopping: {why.reason}")
        if self._supervisor.failure is not None:
            # If it is Kafka that ended, then `up` is just finding out why.
            await asyncio.wait({up}, timeout=_LAST_WORDS)
        ending = {up} if self._watching is None else {up, self._watching}
        for task in ending:
            task.cancel()
        await asyncio.wait(ending)
        await self._supervisor.over()
        self._reporter.ended(self._fleet.status(self._loop.time()))

    def _watched(self, watching: asyncio.Task[None]) -> None:
        if not watching.cancelled() and (error := watching.exception()) is not None:
            self._supervisor.broken(error)

    def _brought_up(self, up: asyncio.Task[None]) -> None:
        if up.cancelled() or (error := up.exception()) is None:
            return
        if self._supervisor.stopping is None or self._supervisor.failure is not None:
            self._trouble = error
            self._supervisor.stop(Ending(getattr(error, "exit_code", EXIT_UNEXPECTED), ""))

    async def _bring_up(self) -> None:
        """Kafka, topics, handlers; returns when all of them are ready."""
        self._bootstrap = await self._ground.start(self._supervisor)
        await in_background(self._check_permissions)
        if self._order.sync:
            await in_background(lambda: self._sync(self._order.pipeline))
        # What was compiled and changed within a second, Python would take for the same as before.
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"} if self._order.watch else os.environ
        around = child_specs.Surroundings(
            self._order.pipeline, self._order.files, self._bootstrap, environ, self._publishing, self._socket.absolute()
        )
        self._publishing.when_wanted(lambda: self._serve_publishing(self._bootstrap), self._loop)
        self._fleet.start(around)
        if self._order.watch:
            self._watching = self._loop.create_task(self._watch())
            self._watching.add_done_callback(self._watched)
        settled = self._loop.create_task(self._supervisor.settled())
        handover = self._order.handover
        late = handover is not None and not (await asyncio.wait({settled}, timeout=SETTLING))[0]
        if handover is not None and late and self._supervisor.stopping is None:
            self._reporter.flush()
            handover.started()
        ready = await settled
        if ready:
            seconds = (datetime.now(UTC) - self._began).total_seconds()
            self._reporter.ready(self._order.pipeline, self._order.handlers, self._bootstrap, seconds)
        if handover is not None and self._supervisor.stopping is None:
            self._reporter.flush()
            handover.settled(ready)

    def _serve_publishing(self, bootstrap: str) -> None:
        if self._supervisor.stopping is None:
            self._supervisor.start([self._publishing.spec(self._pipeline, bootstrap, os.environ)])

    async def _watch(self) -> None:
        from orchestrator.up.reload import Reloader

        order = self._order
        await Reloader(order.files, order.named, self._fleet, self._hear, self._adopt).run(order.pipeline)

    async def _adopt(self, old: Pipeline, new: Pipeline) -> None:
        """The topics and the publish endpoint of another pipeline."""
        await self._sync_changed(old, new)
        self._publish_by(new)

    async def _renew(self, names: list[str]) -> None:
        """Restart these handlers with the files read again. Raises `KpipeError`, and then leaves all as it is."""
        async with self._renewing:
            new = await in_background(lambda: read_again(self._order.files, self._pipeline))
            handlers = [find_in_file(new, name) for name in names]
            await self._sync_changed(self._pipeline, new)
            if self._supervisor.stopping is not None:
                raise UsageError("the pipeline is stopping")
            for name in names:  # --watch may have removed one meanwhile
                find(self._fleet.handlers.values(), name)
            self._fleet.renew(new, names)
            if any(handler.kind == "service" and handler.produces for handler in handlers):
                self._publish_by(new)

    async def _sync_changed(self, old: Pipeline, new: Pipeline) -> None:
        if self._order.sync and new.topics != old.topics:
            await in_background(lambda: self._sync(new))

    def _publish_by(self, new: Pipeline) -> None:
        old, self._pipeline = self._pipeline, new
        self._publishing.adopt(new.handlers.values())
        same = (new.topics, new.handlers, new.schemas) == (old.topics, old.handlers, old.schemas)
        for keeper in self._supervisor.keepers:
            if keeper.spec.name == PUBLISHING and not same:
                keeper.respecify(self._publishing.spec(new, self._bootstrap, os.environ))
                keeper.restart()
        self._publishing.when_wanted(lambda: self._serve_publishing(self._bootstrap), self._loop)

    def _sync(self, pipeline: Pipeline) -> None:
        from orchestrator.kafka.clients import Clients
        from orchestrator.provisioning.execute import sync_for_up

        def say(text: str) -> None:
            self._loop.call_soon_threadsafe(self._reporter.say, text)

        cluster = Clients(pipeline.kafka, self._bootstrap).topics()
        plan = sync_for_up(pipeline, cluster.admin, cluster.claims, say)
        if plan.changes:
            say(f"topics: {_summary(plan)}")

    def _check_permissions(self) -> None:
        from orchestrator.operations.permissions import require

        require(self._order.pipeline, self._order.handlers, self._bootstrap)

    def _verdict(self) -> int:
        """The exit code, or the error that explains it."""
        if self._trouble is not None and self._supervisor.failure is None:
            raise self._trouble
        failure = self._supervisor.failure
        if failure is None:
            return self._supervisor.code
        if failure.code == EXIT_BROKER:
            raise self._trouble or BrokerError(failure.reason, failure.hint)
        raise HandlerError(failure.reason, failure.hint or f"the logs are in {self._state_dir / 'logs'}")

    # What comes in: facts, signals, the control socket, the end of the reader, bugs.

    def _hear(self, fact: Fact) -> None:
        if isinstance(fact, events.Started):
            self._ground.started(fact.name, fact.pid)
        self._reporter.hear(fact)

    def _signalled(self, number: signal.Signals) -> None:
        why = Ending(128 + number, f"{number.name} (again: kill at once)")
        if self._supervisor.stopping is None:
            self._supervisor.stop(why)
        else:
            self._reporter.say(f"{number.name}: killing what is left")
            self._supervisor.kill(why)

    def _nobody_reads(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: everything has stopped
            self._loop.call_soon_threadsafe(
                self._supervisor.stop, Ending(EXIT_CLOSED_OUTPUT, "nobody reads the output any more")
            )

    def _unexpected(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._supervisor.broken(context.get("exception") or RuntimeError(context["message"]))

    def _requests(self) -> ControlRoutes:
        return ControlRoutes(
            self._fleet,
            self._supervisor,
            self._began,
            lambda: (self._order.pipeline.name, shown(self._bootstrap)),
            self._loop.time,
            self._renew,
        )


def _summary(plan: Any) -> str:
    words = {"create": "created", "grow": "grown", "config": "changed"}
    counts = {word: len({c.topic for c in plan.of(action)}) for action, word in words.items()}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
