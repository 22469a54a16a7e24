"""The publish endpoint of one `kpipe up`: its address and tokens, and its process once somebody asks for it."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence

from orchestrator.config import portable
from orchestrator.config.model import Handler, Pipeline
from orchestrator.environment import small
from orchestrator.serving.hosts import names_in
from orchestrator.supervisor.ending import GROUND
from orchestrator.supervisor.spec import ChildSpec, Probe
from orchestrator.targets import Target

#: No handler has a dot in its name.
NAME = "kpipe.publish"
LISTEN_FD = "KPIPE_LISTEN_FD"
URL, TOKEN = "KPIPE_PUBLISH_URL", "KPIPE_PUBLISH_TOKEN"
_BACKLOG = 128


class PublishEndpoint:
    """A listening socket and a token for each service that produces something.

    The process behind it is started with the first connection, which waits for it: most services need none.
    """

    def __init__(self, handlers: Sequence[Handler]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self._tokens: dict[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = False
        self.adopt(handlers)

    def adopt(self, handlers: Iterable[Handler]) -> None:
        """A token for each of these that needs one and has none yet."""
        for handler in handlers:
            if handler.kind == "service" and handler.produces:
                self._tokens.setdefault(handler.name, secrets.token_urlsafe(24))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def env(self, handler: Handler) -> dict[str, str]:
        """What the handler's process is told of it."""
        token = self._tokens.get(handler.name)
        return {} if token is None else {URL: self.url, TOKEN: token}

    def when_wanted(self, start: Callable[[], None], loop: asyncio.AbstractEventLoop) -> None:
        """Call `start` once, when the first connection comes in."""

        def wanted() -> None:
            loop.remove_reader(self._socket)
            self._loop = None
            self._asked = True
            start()

        if self._tokens and not self._asked and self._loop is None:
            self._loop = loop
            loop.add_reader(self._socket, wanted)

    def spec(self, pipeline: Pipeline, bootstrap: str, environ: Mapping[str, str]) -> ChildSpec:
        """The process that answers."""
        config = {
            "pipeline": portable(pipeline),
            "bootstrap": bootstrap,
            "tokens": {token: name for name, token in self._tokens.items()},
            "hosts": names_in(environ),
        }
        port = self._socket.getsockname()[1]
        return ChildSpec(
            NAME, Target.GATEWAY.argv, pipeline.base, small(environ), config=json.dumps(config).encode(),
            probe=Probe(port, "/"), stage=GROUND, stop_timeout=10.0, inherit={LISTEN_FD: self._socket.fileno()},
        )  # fmt: skip

    def close(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
        self._socket.close()
