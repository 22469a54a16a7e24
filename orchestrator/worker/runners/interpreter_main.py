"""A `python:` handler under another Python (`interpreter:`), which runs this file: it speaks the protocol of `exec:`.

    PYTHON interpreter_main.py [--check]

The variable KPIPE_FOREIGN_CONFIG is a JSON object: `target` (module:function), `timeout` (seconds or null), `by` (the
field of the event's id or null), `unavailable` (module:Class, a list), `concurrency`. With --check the function is only
looked for.

Rules of this file:
- Only the standard library: the other Python has its own packages, and none of kpipe's.
- `orchestrator` is this very package, but only its top and what that needs for Emit, Event and the exceptions.
"""

from __future__ import annotations

import sys

# The folder of this file would come first, and its modules before those of the standard library.
sys.path.pop(0)

import asyncio
import base64
import importlib
import importlib.util
import inspect
import json
import os
import secrets
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, TextIO
from uuid import UUID

VALUE = ',"value":'
#: A decimal number on its way through `json`, which would round it.
MARK = f"decimal-{secrets.token_hex(8)}:"


class OutputError(Exception):
    """What the function returned cannot be published."""


class InterpreterHandler:
    """One function, and what the worker would know of it."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Raises whatever importing the function raises."""
        find_orchestrator()
        self._api = importlib.import_module("orchestrator.event")
        self._records = importlib.import_module("orchestrator.records")
        self._function: Callable[[Any], Any] = resolve(config["target"])
        if not callable(self._function):
            raise TypeError(f"{config['target']} is not a function")
        self._away = (
            self._api.Unavailable, ConnectionError, TimeoutError, *(resolve(name) for name in config["unavailable"])
        )  # fmt: skip
        self._timeout = config["timeout"]
        self._by = config["by"]
        #: Where async functions run: all of them in one loop, whatever thread asks.
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="handler-loop", daemon=True).start()

    def answer(self, line: str) -> str:
        """The reply to one request."""
        request = json.loads(line)
        id = request["id"]
        try:
            emits = self._emits(self._call(self._event(request, line)))
            return written({"id": id, "emit": [self._said(emit) for emit in emits]})
        except OutputError as e:
            return json.dumps({"id": id, "reject": str(e), "type": "OutputError"})
        except BaseException as e:  # noqa: BLE001 - the function's failure is the event's outcome
            return json.dumps({"id": id, **self._failure(e)})

    def _call(self, event: Any) -> Any:
        answer = self._function(event)
        if not inspect.isawaitable(answer):
            return answer

        async def awaited() -> tuple[Any, BaseException | None]:
            try:
                return await answer, None
            except BaseException as e:  # noqa: BLE001 - `sys.exit()` would end the loop, and not only this event
                return None, e

        result, error = asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()
        if error is not None:
            raise error
        return result

    def _event(self, request: dict[str, Any], line: str) -> Any:
        raw = None
        value = request["value"]
        if "valueBase64" in request:
            raw = base64.b64decode(request["valueBase64"])
        elif value is not None:
            # No string in JSON has an unescaped quote in it: the first place is the right one.
            start = line.index(VALUE) + len(VALUE)
            raw = line[start : json.JSONDecoder().raw_decode(line, start)[1]].encode()
        key = request["key"]
        key = base64.b64decode(request["keyBase64"]) if "keyBase64" in request else key and key.encode()
        headers = tuple((name_of(name), header(said)) for name, said in request["headers"])
        record = self._records.Record(
            request["topic"], request["partition"], request["offset"], request["timestamp"], key, raw, headers
        )
        found = value.get(self._by) if self._by and isinstance(value, dict) else None
        return self._api.Event(
            record, value,
            id=str(found) if isinstance(found, str | int) and not isinstance(found, bool) else None,
            attempt=request["attempt"],
            deadline=None if self._timeout is None else time.time() + self._timeout,
            letter=self._letter(request.get("letter")),
        )  # fmt: skip

    def _letter(self, said: dict[str, Any] | None) -> Any:
        if said is None:
            return None
        names = {"errorType": "error_type", "errorMessage": "error_message", "redriveCount": "redrive_count"}
        return self._api.Letter(**{names.get(name, name): value for name, value in said.items()})

    def _emits(self, answer: Any) -> list[Any]:
        emit = self._api.Emit
        if answer is None:
            return []
        if isinstance(answer, emit):
            return [answer]
        if isinstance(answer, Iterable) and not isinstance(answer, str | bytes | dict):
            emits = list(answer)
            wrong = next((e for e in emits if not isinstance(e, emit)), None)
            if wrong is None:
                return emits
            answer = wrong
        wanted = "expected Emit, an iterable of Emit, or None"
        raise OutputError(f"the handler returned {type(answer).__name__}; {wanted}")

    def _said(self, emit: Any) -> dict[str, Any]:
        said = {"topic": emit.topic, "value": emit.value}
        if isinstance(emit.key, bytes):
            said["keyBase64"] = base64.b64encode(emit.key).decode()
        elif emit.key is not None:
            said["key"] = emit.key
        if emit.headers:
            pairs = emit.headers.items() if hasattr(emit.headers, "items") else emit.headers
            said["headers"] = [
                [said_name(name), {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value]
                for name, value in pairs
            ]
        return said

    def _failure(self, error: BaseException) -> dict[str, Any]:
        verdict = "retry"
        if isinstance(error, self._api.Reject):
            verdict = "reject"
        elif not isinstance(error, self._api.Retry) and any(isinstance(e, self._away) for e in chain(error)):
            verdict = "unavailable"
        kind = type(error)
        name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        stack = "".join(traceback.format_exception(error))
        said: dict[str, Any] = {verdict: plain(str(error)), "type": name, "stack": plain(stack)}
        after = getattr(error, "after", None)
        if verdict != "reject" and isinstance(after, int | float) and 0 <= after < float("inf"):
            said["after"] = after
        return said


def serve(foreign: InterpreterHandler, requests: Iterable[str], replies: TextIO, concurrency: int) -> None:
    """Answer every request, `concurrency` at once."""
    lock = threading.Lock()

    def answer(line: str) -> None:
        reply = foreign.answer(line) + "\n"
        with lock:
            replies.write(reply)
            replies.flush()

    if concurrency == 1:
        for line in requests:
            answer(line)
        return
    with ThreadPoolExecutor(concurrency, "handler") as pool:
        for line in requests:
            pool.submit(answer, line)


def find_orchestrator() -> None:
    """Make `import orchestrator` find this package, and nothing else of where it is installed."""
    folder = os.path.abspath(__file__)  # noqa: PTH100 - this file is orchestrator/worker/runners/interpreter_main.py
    for _ in range(3):
        folder = os.path.dirname(folder)  # noqa: PTH120
    spec = importlib.util.spec_from_file_location(
        "orchestrator", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]  # noqa: PTH118
    )  # fmt: skip
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["orchestrator"] = module
    spec.loader.exec_module(module)


def resolve(target: str) -> Any:
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def chain(error: BaseException) -> list[BaseException]:
    """The error and what led to it."""
    found: list[BaseException] = []
    ahead: list[BaseException | None] = [error]
    while ahead:
        at = ahead.pop()
        if at is not None and not any(at is known for known in found):
            found.append(at)
            ahead += [at.__cause__ or at.__context__, *getattr(at, "exceptions", ())]
    return found


def header(said: Any) -> bytes | None:
    if isinstance(said, dict):
        return base64.b64decode(said["base64"])
    return None if said is None else str(said).encode()


def name_of(said: Any) -> str:
    """A header's name as `Event` has it."""
    if isinstance(said, dict):
        return base64.b64decode(said["base64"]).decode("utf-8", "surrogateescape")
    return str(said)


def said_name(name: Any) -> Any:
    """The same for a reply, which is UTF-8. Raises OutputError."""
    if not isinstance(name, str) or name.isascii():
        return name
    try:
        return {"base64": base64.b64encode(name.encode("utf-8", "surrogateescape")).decode()}
    except UnicodeEncodeError:
        raise OutputError(f"the header name {name!r} is not valid Unicode") from None


def plain(text: str) -> str:
    """As UTF-8 can say it: a message may have surrogates in it, such as those of a key that is not UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def written(reply: dict[str, Any]) -> str:
    """The reply as JSON. Raises OutputError."""
    try:
        text = json.dumps(reply, default=extra, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as e:
        raise OutputError(f"its value has no JSON form: {e}") from None
    if MARK not in text:
        return text
    before, *numbers = text.split(f'"{MARK}')
    return before + "".join(number.replace('"', "", 1) for number in numbers)


def extra(value: Any) -> Any:
    """What kpipe writes beyond plain JSON."""
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is not a JSON number")
        return f"{MARK}{value}"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a datetime without a time zone; use datetime.now(UTC)")
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def main() -> int:
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        config = json.loads(os.environ.pop("KPIPE_FOREIGN_CONFIG"))
        foreign = InterpreterHandler(config)
    except BaseException as e:  # noqa: BLE001 - whatever the user's module raises
        print(f"{type(e).__name__}: {e}", file=sys.stderr)  # noqa: T201
        return 78
    if sys.argv[1:] == ["--check"]:
        return 0
    fds = [int(os.environ[name]) for name in ("KPIPE_IN_FD", "KPIPE_OUT_FD")]
    for fd in fds:
        os.set_inheritable(fd, False)
    with os.fdopen(fds[0], encoding="utf-8", newline="\n") as requests, os.fdopen(fds[1], "w") as replies:
        serve(foreign, requests, replies, config["concurrency"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
