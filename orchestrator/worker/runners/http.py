"""Handlers of the kind `http:`: every event is posted to a URL as a CloudEvent, and the answer is its outcome.

Rules (DESIGN section 6; the tables are in docs/protocol.md):
- CloudEvents 1.0, binary content mode: the body is the event's value as it stands in Kafka, attributes are headers.
- The deadline covers the whole exchange, from connecting to the answer's last byte.
- No connection, or an answer that says nothing about the event (401, 404, 503, …), means that the endpoint is away. A
  connection that breaks once the event was sent costs an attempt: the event may be what broke it.
- Not so a connection from an earlier event that ends before a byte of the answer came: most likely the other side had
  closed it for being idle. The event is sent once more at once, over a fresh one. RFC 9110 section 9.2.2 allows that
  for a request that may be repeated: delivery here is at least once, and `ce-id` stays the same.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from orchestrator.config.model import Handler
from orchestrator.delivery.outcome import Failed, Verdict
from orchestrator.event import Emit, Event, Letter
from orchestrator.outside import Outside, masked, shown
from orchestrator.worker.runners.base import Inline, Isolated
from orchestrator.worker.runners.http_connections import Connections, HandlerConnection, is_loopback
from orchestrator.worker.runners.messages import emits_of, outcome_of, wrong

AWAY = frozenset({401, 403, 404, 405, 429, 502, 503, 504})
RETRIED = frozenset({408, 425})
#: The longest answer that is read (bytes).
LONGEST_ANSWER = 64 * 1024 * 1024
#: The longest wait that `Retry-After` can ask for (seconds).
LONGEST_WAIT = 3600.0
#: How long the health probe waits for its answer (seconds).
PROBE_SECONDS = 5.0
_PASSED_ON = frozenset({"traceparent", "tracestate", "baggage"})
#: An attribute's name: CloudEvents 1.0 has letters and digits of ASCII only.
_CE_NAME = re.compile(r"[A-Za-z0-9]+")
_PRINTABLE = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"%')
_EXCERPT = 300
#: The end of the year 9999, in seconds since the epoch: no later time can be written.
_LATEST = 253_402_300_799


class HttpHandler:
    """Posts events to one URL: by `run` in one thread, or by `run_async` in one event loop, not both."""

    is_async = True
    inline: Inline | None = None
    alone: Isolated | None = None
    has_pool = False

    def __init__(self, handler: Handler, pipeline: str) -> None:
        # It would log each request; what became of an event is told by its outcome.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        self._target = _text(handler)
        self._url = httpx.URL(self._target)
        self._source = f"/{pipeline}/"
        self._timeout = None if handler.timeout == float("inf") else handler.timeout
        self._headers = dict(handler.headers)
        self._expects_output = bool(handler.produces)
        self._runner: asyncio.Runner | None = None
        self._connections = Connections(self._url)

    def pool(self, on_answer: Callable[[], None]) -> None:
        """One event loop, as for any runner that is async."""

    def run(self, event: Event) -> list[Emit] | Failed:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner.run(self.run_async(event))

    async def run_async(self, event: Event) -> list[Emit] | Failed:
        connection, whole = self._connections.take(), False
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._posted(connection, event)
            whole = True
            return answer
        except TimeoutError:
            return Failed("timeout", f"{self._name}: no answer within {self._timeout:g} s", "Timeout")
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as e:
            return Failed("unavailable", f"{self._name}: no connection: {self._why(e)}", _type_of(e))
        except httpx.HTTPError as e:
            return Failed("retry", f"{self._name}: the connection broke: {self._why(e)}", _type_of(e))
        except Exception as e:  # noqa: BLE001 - what a client library raises is this event's outcome, not the worker's end
            return Failed("retry", f"{self._name}: {self._why(e)}", _type_of(e))
        finally:
            await self._connections.give_back(connection, whole=whole)

    def close(self) -> None:
        if self._runner is not None:
            self._runner.run(self._connections.close())
            self._runner.close()

    def _why(self, error: Exception) -> str:
        """What the client library says: of a header that it does not take, its value."""
        return masked(str(error), [self._target, *self._headers.values()]) or _type_of(error)

    @property
    def _name(self) -> str:
        return f"POST {display(self._target)}"

    async def _posted(self, connection: HandlerConnection, event: Event) -> list[Emit] | Failed:
        try:
            return await self._post(connection, event)
        except httpx.TransportError:
            if not connection.unanswered:
                raise
        return await self._post(connection, event)  # over a fresh one: httpcore keeps none that broke

    async def _post(self, connection: HandlerConnection, event: Event) -> list[Emit] | Failed:
        connection.begin()
        headers = [*self._headers.items(), *request_headers(event, self._source)]
        async with connection.client.stream("POST", self._url, content=event.raw or b"", headers=headers) as response:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LONGEST_ANSWER:
                    return wrong(f"{self._name} answered more than {LONGEST_ANSWER} bytes")
            connection.answered(response)
            return self._outcome(response, bytes(body))

    def _outcome(self, response: httpx.Response, body: bytes) -> list[Emit] | Failed:
        status = response.status_code
        if 200 <= status < 300:
            return self._emits(response.headers.get("content-type", ""), body)
        verdict = verdict_of(status)
        after = retry_after(response.headers.get("retry-after", "")) if verdict in ("retry", "unavailable") else None
        said = _excerpt(body) or response.headers.get("location", "")
        message = f"{self._name} answered {status} {response.reason_phrase}".strip()
        return Failed(verdict, f"{message}: {said}" if said else message, f"HTTP {status}", after=after)

    def _emits(self, content_type: str, body: bytes) -> list[Emit] | Failed:
        """What a good answer asks for. Where nothing can be produced, a body without `emit` is only courtesy."""
        if not body.strip():
            return []
        document = _document(content_type, body)
        if not self._expects_output and not (isinstance(document, dict) and "emit" in document):
            return []
        if isinstance(document, list):
            return emits_of(document)
        if isinstance(document, dict) and set(document) <= {"emit"}:
            return outcome_of(document)
        return wrong(f'{self._name}: its answer is not {{"emit": […]}} as application/json: {_excerpt(body)}')


class HealthProbe:
    """Asks, in a thread of its own, whether the endpoint is well; `look` never blocks."""

    def __init__(self, handler: Handler, done: Callable[[], None]) -> None:
        """`done` is called when an answer is in."""
        self._target, self._path = _text(handler), handler.health or ""
        self._url = httpx.URL(self._target).join(self._path)
        self._headers = dict(handler.headers)
        self._done = done
        self._thread: threading.Thread | None = None
        self._answer: str | None = None

    def look(self) -> str | None:
        """What is wrong with the endpoint, "" when it is well; None while that is being found out."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._ask, name="health", daemon=True)
            self._thread.start()
            return None
        answer, self._answer = self._answer, None
        if answer is not None:
            self._thread = None
        return answer

    def _ask(self) -> None:
        hidden = [self._target, self._path, *self._headers.values()]
        name = f"GET {display(self._target, self._path)}"
        try:
            with httpx.Client(timeout=PROBE_SECONDS, trust_env=not is_loopback(self._url)) as client:
                status = client.get(self._url, headers=self._headers).status_code
            self._answer = "" if 200 <= status < 300 else f"{name} answered {status}"
        except Exception as e:  # noqa: BLE001 - any failure means that it is not well
            self._answer = f"{name}: {masked(str(e), hidden) or _type_of(e)}"
        self._done()


#: User and password, and the query, of a URL as the pipeline file says it.
_PRIVATE = re.compile(r"(?<=//)[^/@]*@|\?.*", re.DOTALL)


def display(target: str, path: str = "") -> str:
    """The URL, or that of `path` at it, without what may be secret in it: what the pipeline file has from outside, and
    user, password and query.
    """
    if isinstance(target, Outside):
        return _PRIVATE.sub("", shown(target)) + (f", {shown(path)}" if path else "")
    url = httpx.URL(target)
    if isinstance(path, Outside):
        return str(url.copy_with(userinfo=b"", query=None, path="/")) + shown(path)
    return str(url.join(path).copy_with(userinfo=b"", query=None))


def _text(handler: Handler) -> str:
    return handler.target if isinstance(handler.target, str) else ""


def request_headers(event: Event, source: str) -> list[tuple[str, str]]:
    """CloudEvents attributes and trace context. A record that is a CloudEvent itself (`ce_…` headers) keeps its own."""
    attributes: dict[str, str] = {
        "specversion": "1.0",
        "id": event.id or f"{event.topic}/{event.partition}/{event.offset}",
        "source": source + quote(event.topic),
        "type": event.topic,
        "time": _rfc3339(event.timestamp),
    }
    headers: dict[str, str] = {"user-agent": "kpipe"}
    for name, value in event.headers:
        if value is None:
            continue
        text = value.decode("utf-8", "replace")
        if name.startswith("ce_"):
            attributes[name.removeprefix("ce_").lower()] = text
        elif name.lower() in _PASSED_ON:
            headers[name.lower()] = _header_text(text)
    if event.key is not None:
        attributes.setdefault("partitionkey", event.key.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    attributes |= {"partition": str(event.partition), "offset": str(event.offset), "attempt": str(event.attempt)}
    headers |= {f"ce-{name}": _header_text(text) for name, text in attributes.items() if _CE_NAME.fullmatch(name)}
    if event.letter is not None:
        headers |= _letter_headers(event.letter)
    if event.raw is not None:
        is_json = event.value is not None or event.raw.strip() == b"null"
        headers["content-type"] = "application/json" if is_json else "application/octet-stream"
    return list(headers.items())


def _letter_headers(letter: Letter) -> Mapping[str, str]:
    said = {
        "id": letter.id,
        "topic": letter.topic,
        "handler": letter.handler,
        "reason": letter.reason,
        "error-type": letter.error_type,
        "error-message": letter.error_message,
        "attempts": str(letter.attempts),
    }
    return {f"kpipe-dlq-{name}": _header_text(text) for name, text in said.items() if text}


def verdict_of(status: int) -> Verdict:
    """What a status other than 2xx says. A redirect is a wrong URL: no fault of the event's."""
    if status in AWAY or status < 400:
        return "unavailable"
    return "retry" if status in RETRIED or status >= 500 else "reject"


def retry_after(said: str) -> float | None:
    """Seconds to wait, from a number of seconds or a date (RFC 9110 section 10.2.3); None when it is neither."""
    if not said:
        return None
    try:
        seconds = (
            float(said) if said.strip().isdigit() else (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        )
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT)


def _document(content_type: str, body: bytes) -> Any:
    media = content_type.partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _excerpt(body: bytes) -> str:
    """The beginning of an answer on one line."""
    return " ".join(body[: 4 * _EXCERPT].decode("utf-8", "replace").split())[:_EXCERPT]


def _header_text(text: str) -> str:
    """As CloudEvents' HTTP binding encodes header values (section 3.1.3.2)."""
    return quote(text, safe=_PRINTABLE)


def _rfc3339(milliseconds: int) -> str:
    """A record's time, or the nearest that can be written: a producer may send any number."""
    at = datetime.fromtimestamp(min(max(0, milliseconds) / 1000, _LATEST), UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _type_of(error: BaseException) -> str:
    return type(error).__name__
