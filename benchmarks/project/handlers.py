"""kpipe's side of the benchmark."""

from __future__ import annotations

import asyncio
import time

from workload import authorize

from orchestrator import Emit, Event


def handle(event: Event) -> Emit:
    return Emit("payments", authorize(event.value))


async def wait(event: Event) -> Emit:
    """A call over the network that takes 10 ms."""
    await asyncio.sleep(0.01)
    return handle(event)


def block(event: Event) -> Emit:
    """The same by a client that is not async."""
    time.sleep(0.01)
    return handle(event)
