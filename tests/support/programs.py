"""Programs that speak the protocol of `exec:` handlers, well and badly, in Python for the test's own interpreter."""

from __future__ import annotations

import sys
import textwrap

#: What each begins with: `requests` to read, `say` to answer, `echo` for an honest reply.
_HEAD = """
import json, os, signal, sys, time
requests, replies = os.fdopen(3), os.fdopen(4, "w")
def say(reply):
    replies.write((reply if isinstance(reply, str) else json.dumps(reply)) + "\\n")
    replies.flush()
def echo(event):
    say({"id": event["id"], "emit": [{"topic": "out", "value": event["value"]}]})
"""


def program(body: str) -> list[str]:
    """The argv of a program with this body."""
    return [sys.executable, "-c", _HEAD + textwrap.dedent(body)]


def each(body: str) -> list[str]:
    """One that reads a line, does `body` with `event` and its `value`, and goes on."""
    loop = "for line in requests:\n    event = json.loads(line)\n    value = event['value']\n"
    return [sys.executable, "-c", _HEAD + loop + textwrap.indent(textwrap.dedent(body), "    ")]


NAIVE = each("echo(event)")
