"""What a listener serves, and to whom."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from orchestrator.serving.hosts import Hosts
from orchestrator.serving.limits import ListenerLimits
from orchestrator.serving.messages import Page, Request, Response


@dataclass(frozen=True)
class Site:
    """`answer` may raise `RequestRefused`. `hosts` is None where no browser can get to: a Unix socket."""

    answer: Callable[[Request], Awaitable[Response | Page]]
    hosts: Hosts | None
    limits: ListenerLimits
