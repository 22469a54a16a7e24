"""What a running `kpipe up` answers on its control socket: docs/control-api.md."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus

from orchestrator import __version__
from orchestrator.errors import EXIT_OK, FindingsError, KpipeError, UsageError
from orchestrator.serving import Page, RequestRefused, Response
from orchestrator.supervisor.control.server import Query, Routes
from orchestrator.supervisor.control.status import PipelineStatus, StopStatus
from orchestrator.supervisor.ending import GROUND, Ending
from orchestrator.supervisor.policy import OVER
from orchestrator.supervisor.supervisor import Supervisor
from orchestrator.up.replicas import Replicas, check_scale, find

API_VERSION = 1
#: What an orderly stop may take beyond the stop timeouts of its stages (seconds).
_STOP_MARGIN = 15.0
#: The longest time to stop that may be asked for (seconds): a day.
_LONGEST_STOP = 86_400.0
_NOT_RESTARTED = "nothing was restarted: the handlers go on as they were; mend the file and restart them again"


@dataclass(frozen=True)
class ControlRoutes:
    """The routes of one `up`. `about` gives the name of the pipeline and where its Kafka is; `now` is the lives' clock.

    `renew` restarts handlers with their files read again; it may raise `KpipeError`, and then none is touched.
    """

    fleet: Replicas
    supervisor: Supervisor
    since: datetime
    about: Callable[[], tuple[str, str]]
    now: Callable[[], float]
    renew: Callable[[list[str]], Awaitable[None]]

    @property
    def routes(self) -> Routes:
        return {
            ("GET", "/v1"): self._version,
            ("GET", "/v1/ps"): self._ps,
            ("GET", "/v1/pipeline"): self._pipeline,
            ("POST", "/v1/down"): self._down,
            ("POST", "/v1/restart"): self._restart,
            ("POST", "/v1/scale"): self._scale,
            **self.metrics,
        }

    @property
    def metrics(self) -> Routes:
        """What Prometheus asks for, here and on the port that `--metrics-port` opens."""
        return {("GET", "/metrics"): self._metrics}

    def _metrics(self, _query: Query) -> Page:
        # Not before somebody asks: reading the library takes a moment.
        from orchestrator.observe.exposition import CONTENT_TYPE, exposition

        return Page(HTTPStatus.OK, exposition(self.fleet.processes()), CONTENT_TYPE)

    def _version(self, query: Query) -> Response:
        _only(query)
        return Response(HTTPStatus.OK, {"api": API_VERSION, "kpipe": __version__, "pid": os.getpid()})

    def _ps(self, query: Query) -> Response:
        _only(query)
        pipeline, bootstrap = self.about()
        status = PipelineStatus(
            os.getpid(), self.since.isoformat(), pipeline, bootstrap, self._phase(),
            tuple(self.fleet.status(self.now())),
        )  # fmt: skip
        return Response(HTTPStatus.OK, status.to_json())

    def _phase(self) -> str:
        if self.supervisor.stopping is not None:
            return "stopping"
        return "running" if self.fleet.started else "starting"

    def _down(self, query: Query) -> Response:
        _only(query, "timeout")
        if "timeout" in query:
            self.supervisor.hurry(_seconds(query["timeout"][-1]), GROUND + 1)
        self.supervisor.stop(Ending(EXIT_OK, "`kpipe down`"))
        running = [k for k in self.supervisor.keepers if k.life.state not in OVER]
        stages = {k.spec.stage: max(o.patience for o in running if o.spec.stage == k.spec.stage) for k in running}
        return Response(HTTPStatus.ACCEPTED, StopStatus(True, sum(stages.values()) + _STOP_MARGIN).to_json())

    def _pipeline(self, query: Query) -> Page:
        _only(query, "handler")
        names = query.get("handler", [])
        self._must_know(names)
        settings = self.fleet.settings(names[0]) if len(names) == 1 else None
        if settings is None:
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, "one handler that was started has to be named")
        files = json.dumps([str(path) for path in settings.files])
        text = f'{{"files": {files}, "pipeline": {settings.packed.decode()}}}\n'
        return Page(HTTPStatus.OK, text, "application/json")

    async def _restart(self, query: Query) -> Response:
        _only(query, "handler")
        names = list(dict.fromkeys(query.get("handler", [])))
        self._must_run()
        self._must_know(names)
        if not names:
            raise RequestRefused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "no handler is named", "POST /v1/restart?handler=NAME"
            )
        try:
            await self.renew(names)
        except FindingsError as wrong:
            findings = [finding.as_json() for finding in wrong.errors]
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, wrong.message, _NOT_RESTARTED, findings) from wrong
        except KpipeError as wrong:
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, wrong.message, wrong.hint) from wrong
        return Response(HTTPStatus.ACCEPTED, {"restarting": names})

    def _scale(self, query: Query) -> Response:
        _only(query, "handler", "replicas")
        names, counts = query.get("handler", []), query.get("replicas", [])
        self._must_run()
        self._must_know(names)
        if not names or len(names) != len(counts):
            raise RequestRefused(
                HTTPStatus.UNPROCESSABLE_ENTITY, "not every handler has its number of replicas",
                "POST /v1/scale?handler=NAME&replicas=N",
            )  # fmt: skip
        wanted = {name: _count(text) for name, text in zip(names, counts, strict=True)}
        try:
            for name, count in wanted.items():
                check_scale(self.fleet.handlers[name], count)
        except UsageError as wrong:
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, wrong.message, wrong.hint) from wrong
        for name, count in wanted.items():
            self.fleet.scale(name, count)
        return Response(HTTPStatus.ACCEPTED, {"replicas": wanted})

    def _must_run(self) -> None:
        if self._phase() != "running":
            raise RequestRefused(
                HTTPStatus.CONFLICT, f"the pipeline is {self._phase()}", "`kpipe ps` shows how far it is"
            )

    def _must_know(self, names: list[str]) -> None:
        try:
            for name in names:
                find(self.fleet.handlers.values(), name)
        except UsageError as unknown:
            raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, unknown.message, unknown.hint) from unknown


def _only(query: Query, *known: str) -> None:
    """A parameter that means nothing is a mistake: what it was to do would not happen."""
    unknown = sorted(query.keys() - set(known))
    if unknown:
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, f"there is no parameter `{unknown[0]}` here")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_STOP:
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, f"timeout={text}: not a number of seconds")
    return seconds


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9):
        raise RequestRefused(HTTPStatus.UNPROCESSABLE_ENTITY, f"replicas={text}: not a number of replicas")
    return int(text)
