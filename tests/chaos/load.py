"""`python -m tests.chaos.load`: events at a steady rate, until SIGTERM. A plain client; nothing of kpipe.

Of a thousand events some fail once and are retried (`flaky`), some are refused by the handler (`reject`), some are no
JSON (`broken`), some are sent twice (`copy`). All others are `good`. Each key counts its events in `n`.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
from typing import Any

from confluent_kafka import Producer

#: Out of a thousand events.
SHARES = {"flaky": 5, "reject": 2, "broken": 1, "copy": 3}
PADDING = "x" * 100
SLICE = 0.02


class Load:
    def __init__(self, bootstrap: str, topic: str, keys: int, seed: int) -> None:
        self._topic, self._keys = topic, keys
        self._chance = random.Random(seed)
        self._sequence = [0] * keys
        self._number = 0
        self.acknowledged = self.failed = 0
        self.producer = Producer(
            {
                "bootstrap.servers": bootstrap, "acks": "all", "enable.idempotence": True, "linger.ms": 10,
                "message.timeout.ms": 0, "compression.type": "lz4", "log_level": 0,
                "reconnect.backoff.max.ms": 1000,
            }
        )  # fmt: skip

    def send(self, kind: str) -> None:
        key = self._chance.randrange(self._keys)
        name = f"key-{key}"
        self._number += 1
        value = {"eventId": f"e{self._number}", "n": self._sequence[key], "kind": kind, "padding": PADDING}
        self._sequence[key] += 1
        raw = json.dumps(value).encode()
        if kind == "broken":
            raw = raw[:-1]
        for _ in range(2 if kind == "copy" else 1):
            self._produce(name, raw)

    def _produce(self, key: str, raw: bytes) -> None:
        while True:
            try:
                self.producer.produce(self._topic, raw, key, on_delivery=self._told)
                return
            except BufferError:
                self.producer.poll(0.1)

    def _told(self, error: Any, message: Any) -> None:
        self.acknowledged += error is None
        self.failed += error is not None

    def kinds(self, count: int) -> list[str]:
        names, shares = zip(*SHARES.items(), strict=True)
        return self._chance.choices([*names, "good"], [*shares, 1000 - sum(shares)], k=count)


def main() -> None:
    parse = argparse.ArgumentParser()
    parse.add_argument("--bootstrap", required=True)
    parse.add_argument("--topic", required=True)
    parse.add_argument("--rate", type=float, required=True, help="events a second")
    parse.add_argument("--keys", type=int, default=500)
    parse.add_argument("--seed", type=int, required=True)
    parse.add_argument("--only-good", action="store_true")
    said = parse.parse_args()
    load = Load(said.bootstrap, said.topic, said.keys, said.seed)
    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    print("sending", flush=True)
    began = time.monotonic()
    sent = 0
    while not stop:
        due = int((time.monotonic() - began) * said.rate)
        # After an outage of Kafka the load does not make up for what it could not send: its queue is bounded.
        for kind in load.kinds(min(due - sent, int(said.rate))):
            load.send("good" if said.only_good else kind)
        sent = due
        load.producer.poll(0)
        time.sleep(SLICE)
    left = load.producer.flush(60)
    took = time.monotonic() - began
    print(
        json.dumps({"acknowledged": load.acknowledged, "failed": load.failed, "left": left, "seconds": round(took, 1)})
    )


if __name__ == "__main__":
    main()
