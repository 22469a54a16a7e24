"""`python -m orchestrator.publish.gateway`: publishing over HTTP, for services in any language (docs/handlers.md).

    POST /topics/orders.created        Authorization: Bearer $KPIPE_PUBLISH_TOKEN

Configuration: one JSON document on the pipe that `KPIPE_CONFIG_FD` names; the listening socket, on loopback, is
inherited (`KPIPE_LISTEN_FD`), so that connections wait for a gate that is just being started. Each token stands for one
service, which may publish what its `produces` lists. An answer 202 means that Kafka acknowledged the event.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote

from orchestrator.config import restored
from orchestrator.config.model import Pipeline
from orchestrator.contracts import Undecodable, decode_json
from orchestrator.errors import EXIT_COULD_NOT_START, BrokerError, ContractError, KpipeError, UsageError
from orchestrator.kafka.producer import LARGEST_REQUEST
from orchestrator.publish.publisher import Publisher, TooLargeError
from orchestrator.records import EmitHeaders
from orchestrator.serving import Hosts, ListenerLimits, Request, RequestRefused, Response, Server, Site
from orchestrator.serving.hosts import LOOPBACK
from orchestrator.serving.limits import connections

log = logging.getLogger("kpipe.publish")

#: The longest body (bytes). Whether an event fits into its topic is known once it is compressed: Kafka says so.
MOST_BODY = LARGEST_REQUEST
PREFIX = "/topics/"
#: HTTP headers that become record headers under their own name (W3C Trace Context and Baggage).
PASSED_ON = ("traceparent", "tracestate", "baggage")
#: `Kpipe-Header-NAME: value` becomes the record header NAME.
HEADER_PREFIX = "kpipe-header-"
#: Record headers travel in the head, so it may be long. A connection may wait a minute for its next event.
LIMITS = ListenerLimits(connections=256, head_bytes=65_536, idle_seconds=60.0, stop_seconds=7.0)


class Gate:
    """What the services of one pipeline may publish, each by its token."""

    def __init__(self, pipeline: Pipeline, bootstrap: str, tokens: Mapping[str, str], timeout: float = 5.0) -> None:
        """`tokens` maps a token to the service's name. Kafka has `timeout` seconds to acknowledge an event."""
        self._timeout = timeout
        self._pipeline = pipeline
        self._bootstrap = bootstrap
        self._tokens = dict(tokens)
        self._publishers: dict[str, Publisher] = {}

    async def answer(self, request: Request) -> Response:
        """One request: `GET /` is health, `POST /topics/NAME` an event. Raises `RequestRefused`."""
        if request.method != "POST":
            if request.path != "/":
                raise RequestRefused(405, "POST an event", headers={"Allow": "POST"})
            if request.method != "GET":
                raise RequestRefused(405, f"{request.method} is not for /", headers={"Allow": "GET"})
            return Response(200, {"status": "ok"})
        service = self.service(request.header("authorization") or "")
        if service is None:
            raise RequestRefused(
                401, "Authorization has to be `Bearer` and the token in KPIPE_PUBLISH_TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
        topic = unquote(request.path.removeprefix(PREFIX))
        if not request.path.startswith(PREFIX) or not self.may(service, topic):
            raise RequestRefused(404, f"{service} does not declare a topic {topic} under `produces`")
        if request.length == 0 and request.header("content-length") is None:
            raise RequestRefused(411, "a Content-Length is required, or a body in chunks")
        body = await request.body(MOST_BODY)
        key = parse_qs(request.query, keep_blank_values=True).get("key", [None])[-1]
        return await self.publish(service, topic, body, key, record_headers(request.headers))

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

    async def publish(self, service: str, topic: str, body: bytes, key: str | None, headers: EmitHeaders) -> Response:
        try:
            value = decode_json(body)
        except Undecodable as e:
            return error(400, f"the body is not JSON: {e.reason}")
        try:
            sent = await self._publisher(service).publish_async(topic, value, key, headers)
        except TooLargeError as e:
            return error(413, e.message)
        except ContractError as e:
            listed = [{"path": path, "message": message} for path, message in e.violations]
            return error(422, e.message, violations=listed)
        except BrokerError as e:
            return error(503, e.message)._replace(headers={"Retry-After": "1"})
        except UsageError as e:
            return error(400, e.message)
        return Response(202, {"topic": sent.topic, "partition": sent.partition, "offset": sent.offset})

    def close(self) -> None:
        for publisher in self._publishers.values():
            publisher.close()

    def _publisher(self, service: str) -> Publisher:
        if service not in self._publishers:
            self._publishers[service] = Publisher(
                self._timeout, pipeline=self._pipeline, bootstrap=self._bootstrap, handler=service, environ={}
            )
        return self._publishers[service]


def error(status: int, message: str, **more: Any) -> Response:
    return Response(status, {"error": message, **more})


def record_headers(headers: Iterable[tuple[str, bytes]]) -> EmitHeaders:
    """The record headers that a request's headers (lower-case names) ask for, repeated ones included."""
    return [
        (name.removeprefix(HEADER_PREFIX), value)
        for name, value in headers
        if name in PASSED_ON or name.startswith(HEADER_PREFIX)
    ]


def site(gate: Gate, hosts: Hosts) -> Site:
    return Site(gate.answer, hosts, LIMITS._replace(connections=connections(LIMITS.connections)))


async def serve(gate: Gate, listening: socket.socket, hosts: Hosts) -> None:
    """Until SIGTERM or SIGINT."""
    loop, ending = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    async with Server(listening, site(gate, hosts), log.warning) as server:
        log.info("services publish at http://127.0.0.1:%d", server.port)
        await ending.wait()


def main() -> int:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        with os.fdopen(int(os.environ.pop("KPIPE_CONFIG_FD")), "rb") as pipe:
            said = json.loads(pipe.read())
        listening = socket.socket(fileno=int(os.environ.pop("KPIPE_LISTEN_FD")))
        listening.set_inheritable(False)
        pipeline = restored(said["pipeline"])
        gate = Gate(pipeline, pipeline.kafka.bootstrap or said["bootstrap"], said["tokens"])
        hosts = Hosts(LOOPBACK | set(said["hosts"]))
    except (KeyError, ValueError, KpipeError) as e:
        log.error("could not start: %s", e)
        return EXIT_COULD_NOT_START
    asyncio.run(serve(gate, listening, hosts))
    gate.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
