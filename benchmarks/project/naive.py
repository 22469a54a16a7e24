"""The benchmark's handler as a program: reads a line, writes a line."""

from __future__ import annotations

import json
import os

from workload import authorize

with os.fdopen(3) as requests, os.fdopen(4, "w") as replies:
    for line in requests:
        event = json.loads(line)
        emit = [{"topic": "payments", "value": authorize(event["value"])}]
        print(json.dumps({"id": event["id"], "emit": emit}), file=replies, flush=True)
