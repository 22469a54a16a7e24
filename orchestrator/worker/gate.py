"""`python -m orchestrator.worker.gate`: publishing over HTTP, for services in any language (docs/handlers.md).

    POST /topics/orders.created        Authorization: Bearer $KPIPE_PUBLISH_TOKEN

Configuration: one JSON document on the pipe that `KPIPE_CONFIG_FD` names; the listening socket, on loopback, is
inherited (`KPIPE_LISTEN_FD`), so that connections wait for a gate that is just being started. Each token stands for one
service, which may publish what its `produces` lists. An answer 202 means that Kafka acknowledged the event.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from orchestrator.config import restored
from orchestrator.config.model import Pipeline
from orchestrator.contracts import Undecodable, decode_json
from orchestrator.errors import BrokerError, ContractError, KpipeError, UsageError
from orchestrator.kafka.producer import LARGEST_REQUEST
from orchestrator.records import EmitHeaders
from orchestrator.worker.service import Publisher, TooLargeError

log = logging.getLogger("kpipe.publish")

EXIT_COULD_NOT_START = 78
#: A client that says nothing for so long is hung up on (seconds).
PATIENCE = 60.0
#: The longest body (bytes). Whether an event fits into its topic is known once it is compressed: Kafka says so.
MOST_BODY = LARGEST_REQUEST
#: So much of a body that is refused is read all the same (bytes).
MOST_DISCARDED = 16 * 1024 * 1024
PREFIX = "/topics/"
#: HTTP headers that become record headers under their own name (W3C Trace Context and Baggage).
PASSED_ON = ("traceparent", "tracestate", "baggage")
#: `Kpipe-Header-NAME: value` becomes the record header NAME.
HEADER_PREFIX = "kpipe-header-"


class Answer(NamedTuple):
    """What a request is answered. `body` is a JSON object."""

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = {}


class Gate:
    """What the services of one pipeline may publish, each by its token."""

    def __init__(self, pipeline: Pipeline, bootstrap: str, tokens: Mapping[str, str], timeout: float = 5.0) -> None:
        """`tokens` maps a token to the service's name. Kafka has `timeout` seconds to acknowledge an event."""
        self._timeout = timeout
        self._pipeline = pipeline
        self._bootstrap = bootstrap
        self._tokens = dict(tokens)
        self._publishers: dict[str, Publisher] = {}
        self._lock = threading.Lock()

    def service(self, authorization: str) -> str | None:
        """Whose token it is."""
        kind, _, token = authorization.partition(" ")
        found = None
        for known, name in self._tokens.items():
            if hmac.compare_digest(known.encode(), token.strip().encode("utf-8", "replace")):
                found = name
        return found if kind.lower() == "bearer" else None

    def may(self, service: str, topic: str) -> bool:
        return topic in self._pipeline.handlers[service].produces

    def publish(self, service: str, topic: str, body: bytes, key: str | None, headers: EmitHeaders) -> Answer:
        try:
            value = decode_json(body)
        except Undecodable as e:
            return error(400, f"the body is not JSON: {e.reason}")
        try:
            sent = self._publisher(service).publish(topic, value, key, headers)
        except TooLargeError as e:
            return error(413, e.message)
        except ContractError as e:
            listed = [{"path": path, "message": message} for path, message in e.violations]
            return error(422, e.message, violations=listed)
        except BrokerError as e:
            return error(503, e.message)._replace(headers={"Retry-After": "1"})
        except UsageError as e:
            return error(400, e.message)
        return Answer(202, {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset})

    def close(self) -> None:
        for publisher in self._publishers.values():
            publisher.close()

    def _publisher(self, service: str) -> Publisher:
        with self._lock:
            if service not in self._publishers:
                self._publishers[service] = Publisher(
                    self._timeout, pipeline=self._pipeline, bootstrap=self._bootstrap, handler=service, environ={}
                )
            return self._publishers[service]


def error(status: int, message: str, **more: Any) -> Answer:
    return Answer(status, {"error": message, **more})


class Request(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "kpipe"
    sys_version = ""
    timeout = PATIENCE
    disable_nagle_algorithm = True
    gate: Gate

    def do_GET(self) -> None:
        self._say(Answer(200, {"status": "ok"}) if urlsplit(self.path).path == "/" else error(405, "POST an event"))

    def do_POST(self) -> None:
        # Whatever is answered before the body was read ends the connection: the rest is no next request.
        self.close_connection = True
        self._unread = 0
        self._say(self._post())
        self._discard()

    def _post(self) -> Answer:
        length = self.headers.get("content-length", "")
        self._unread = int(length) if length.isdecimal() else 0
        service = self.gate.service(self.headers.get("authorization", ""))
        if service is None:
            return error(401, "Authorization has to be `Bearer` and the token in KPIPE_PUBLISH_TOKEN")._replace(
                headers={"WWW-Authenticate": "Bearer"}
            )
        where = urlsplit(self.path)
        topic = unquote(where.path.removeprefix(PREFIX))
        if not where.path.startswith(PREFIX) or not self.gate.may(service, topic):
            return error(404, f"{service} does not declare a topic {topic} under `produces`")
        if not length.isdecimal():
            return error(411, "Content-Length is required")
        if int(length) > MOST_BODY:
            return error(413, f"an event has {MOST_BODY} bytes at most")
        self._unread = 0
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return error(400, "the body ended early")
        self.close_connection = self.headers.get("connection", "").lower() == "close"
        key = parse_qs(where.query, keep_blank_values=True).get("key", [None])[-1]
        return self.gate.publish(service, topic, body, key, record_headers(self.headers))

    def _discard(self) -> None:
        """Read what was sent in vain: a connection that is closed on unread data takes the answer along."""
        left = min(self._unread, MOST_DISCARDED)
        while left > 0 and (data := self.rfile.read(min(left, 65_536))):
            left -= len(data)

    def _say(self, answer: Answer) -> None:
        body = json.dumps(answer.body).encode() + b"\n"
        self.send_response(answer.status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **answer.headers}
        if self.close_connection:
            headers["Connection"] = "close"
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: what is refused is told to whoever asked."""


def record_headers(headers: Message) -> EmitHeaders:
    """The record headers that a request's headers ask for."""
    asked: list[tuple[str, bytes]] = []
    for name, value in headers.items():
        # http.server reads header bytes as Latin-1, whatever they were.
        lower = name.encode("latin-1", "replace").lower().decode("utf-8", "surrogateescape")
        if lower in PASSED_ON or lower.startswith(HEADER_PREFIX):
            asked.append((lower.removeprefix(HEADER_PREFIX), value.encode("latin-1", "replace")))
    return asked


class Server(ThreadingHTTPServer):
    """On a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, gate: Gate) -> None:
        handler = type("GateRequest", (Request,), {"gate": gate})
        super().__init__(("127.0.0.1", 0), handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.server_address = listening.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is its own business; anything else is told."""
        if not isinstance(sys.exception(), OSError):
            log.error("a request failed", exc_info=True)


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        with os.fdopen(int(os.environ.pop("KPIPE_CONFIG_FD")), "rb") as pipe:
            said = json.loads(pipe.read())
        listening = socket.socket(fileno=int(os.environ.pop("KPIPE_LISTEN_FD")))
        listening.set_inheritable(False)
        pipeline = restored(said["pipeline"])
        gate = Gate(pipeline, pipeline.kafka.bootstrap or said["bootstrap"], said["tokens"])
    except (KeyError, ValueError, KpipeError) as e:
        log.error("could not start: %s", e)
        return EXIT_COULD_NOT_START
    server = Server(listening, gate)

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.info("services publish at http://127.0.0.1:%d", server.server_address[1])
    server.serve_forever(poll_interval=0.2)
    gate.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
