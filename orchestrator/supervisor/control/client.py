"""Talk to a running `kpipe up` through its control socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Any

from orchestrator.errors import FindingsError, KpipeError, UsageError
from orchestrator.records import Finding

#: How long an answer may take unless the caller says otherwise (seconds).
PATIENCE = 5.0


class NoAnswer(KpipeError):
    """Nobody listens at the socket, or whoever does says nothing that makes sense."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, patience: float) -> None:
        super().__init__("kpipe", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self._path))


def ask(path: Path, method: str, target: str, patience: float = PATIENCE) -> Any:
    """The JSON body of the answer, for which it waits `patience` seconds.

    Raises `NoAnswer`, `FindingsError` when the pipeline's files are wrong, or `UsageError` when what is asked for
    cannot be done.
    """
    connection = _UnixConnection(path, patience)
    try:
        connection.request(method, target)
        response = connection.getresponse()
        body = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NoAnswer(f"the running pipeline does not answer at {path} ({error or type(error).__name__})") from error
    finally:
        connection.close()
    if not isinstance(body, dict):
        raise NoAnswer(f"what listens at {path} is no `kpipe up`")
    if response.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
        if findings := body.get("findings"):
            raise FindingsError([Finding(**finding) for finding in findings], body["error"], body.get("hint", ""))
        raise UsageError(body["error"], body.get("hint", ""))
    if response.status >= 400:
        raise NoAnswer(f"the running pipeline refused {target}: {body.get('error', response.reason)}")
    return body
