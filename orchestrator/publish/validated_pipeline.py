"""The pipeline as the running `kpipe up` has checked it, for a service that was started by it.

A service that is started again must not depend on what the files hold at that moment: they may be half saved. It asks
at the control socket (docs/control-api.md) for what it was started with.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Mapping
from urllib.parse import quote

from orchestrator.config import restored
from orchestrator.config.model import Pipeline

CONTROL_VARIABLE = "KPIPE_CONTROL_SOCKET"
#: How long `up` may take to answer (seconds).
_PATIENCE = 5.0


class _Control(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("kpipe", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def validated(environ: Mapping[str, str], handler: str, files: str) -> Pipeline | None:
    """The pipeline of the files (joined by the path separator) that `handler` was started with.

    None where no `up` of just these files answers: its files have to be read then.
    """
    path = environ.get(CONTROL_VARIABLE)
    if not path or not handler:
        return None
    connection = _Control(path)
    try:
        connection.request("GET", f"/v1/pipeline?handler={quote(handler)}")
        response = connection.getresponse()
        body = response.read()
        answer = json.loads(body) if response.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return restored(answer["pipeline"]) if os.pathsep.join(answer.get("files", ())) == files else None
