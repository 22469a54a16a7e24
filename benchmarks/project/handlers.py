"""kpipe's side of the benchmark."""

from __future__ import annotations

import asyncio

from workload import authorize

from orchestrator import Emit, Event


def handle(event: Event) -> Emit:
    return Emit("payments", authorize(event.value))


async def wait(event: Event) -> None:
    """A call over the network that takes 10 ms."""
    await asyncio.sleep(0.01)
