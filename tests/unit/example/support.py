"""Events as the example's handlers get them, and a publisher that needs no Kafka."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from orchestrator import Event, Letter
from orchestrator.config import load
from orchestrator.contracts import decode_json, encode_json, load_contracts, outgoing
from orchestrator.errors import ContractError
from orchestrator.records import Outgoing, Record

ROOT = Path(__file__).parents[3]
ORDER_ID = "3f0c8f5e-6d0a-4f4e-9a55-1b2f7c9d4e10"
T0 = 1_768_473_000_000  # 2026-01-15T10:30:00Z

_loaded = load([ROOT / "pipeline.yaml"], {**os.environ, "KAFKA_BOOTSTRAP": "", "KPIPE_ENV": ""})
assert _loaded.pipeline is not None, _loaded.findings
PIPELINE = _loaded.pipeline
CONTRACTS = load_contracts(PIPELINE)


def order(**changes: Any) -> dict[str, Any]:
    return {**_example("order"), **changes}


def _example(name: str) -> dict[str, Any]:
    value: dict[str, Any] = decode_json((ROOT / "schemas" / "examples" / f"{name}.json").read_bytes())
    return value


def event(
    topic: str,
    value: Any,
    *,
    raw: bytes | None = None,
    key: bytes | None = None,
    offset: int = 0,
    timestamp: int = T0,
    letter: Letter | None = None,
) -> Event:
    """An event whose value went through JSON; `raw` instead of `value` for what is not JSON."""
    written = raw if raw is not None else None if value is None else encode_json(value)
    read = None if raw is not None or written is None else decode_json(written)
    return Event(Record(topic, 0, offset, timestamp, key, written, ()), read, letter=letter)


def letter(reason: str = "schema", offset: int = 0) -> Letter:
    return Letter(f"orders.payments/orders.created/0/{offset}", "orders.created", 0, offset, "payments", reason)


def published(topic: str, value: Any) -> Outgoing:
    """What `Publisher` (and a worker, for an `Emit`) makes of a value; ContractError when it would refuse."""
    return outgoing(PIPELINE.topics[topic], CONTRACTS[topic], value)


def ask(app: Starlette, method: str, path: str, **request: Any) -> httpx.Response:
    """One request to `app`, without a network."""

    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.request(method, path, **request)

    return asyncio.run(send())


class FakePublisher:
    """Holds events to their contracts as `Publisher` does, and keeps them; `failure` is what Kafka does."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.records: list[Outgoing] = []
        self.failure = failure
        self.closed = False

    @property
    def values(self) -> list[Any]:
        return [decode_json(record.value or b"null") for record in self.records]

    async def publish_async(self, topic: str, value: Any, *, headers: Mapping[str, str | bytes] | None = None) -> None:
        record = published(topic, value)._replace(
            headers=tuple((n, str(v).encode()) for n, v in (headers or {}).items())
        )
        if self.failure is not None:
            raise self.failure
        self.records.append(record)

    def violations(self, topic: str, value: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
        try:
            published(topic, value)
        except ContractError as error:
            return error.violations
        return ()

    def close(self) -> int:
        self.closed = True
        return 0
