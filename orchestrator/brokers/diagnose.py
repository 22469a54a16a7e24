"""Why Kafka did not start, read from its log: a JVM has no other way to tell."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from orchestrator.brokers.model import LaunchSpec, PortTaken
from orchestrator.errors import BrokerError
from orchestrator.state import StateError, existing

TAIL_BYTES = 256 * 1024

_DISK_FULL = ("the disk is full", "free some space")
#: Less than this and nothing can be written, whatever the file system keeps for itself.
_FULL_BYTES = 64 * 1024

#: The first pattern found anywhere decides; specific ones first, since one failure drags others behind it.
_REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"UnsupportedClassVersionError|has been compiled by a more recent version of the Java",
        "this Java is too old for this Kafka",
        "install Java 17 or later, or set JAVA_HOME to one",
    ),
    (
        r"Could not reserve enough space|heap size set to a larger|Too small|Invalid \w+ heap|OutOfMemoryError",
        "the Java heap is too small, or the machine has too little memory",
        "give it more with KAFKA_HEAP_OPTS=-Xmx512m, or free some memory",
    ),
    (r"No space left on device|Disk quota exceeded", *_DISK_FULL),
    (
        r"Failed to acquire lock on file|A Kafka instance in another process or thread is using",
        "another process uses its data folder",
        "stop that one first; `kpipe broker status` shows what kpipe knows of",
    ),
    (
        r"Read-only file system|Permission denied|AccessDeniedException",
        "its data folder cannot be written",
        "check who owns the folder .kpipe and what is in it",
    ),
    (
        r"CorruptRecordException|InconsistentClusterIdException|InconsistentBrokerMetadataException",
        "its data folder is damaged",
        "move the folder .kpipe/broker/data away: Kafka starts empty then",
    ),
)
_EXCEPTION = re.compile(r"^(?:Caused by: )?(?:[\w$]+\.)+\w+(?:Exception|Error): .")
_ERROR = re.compile(r" (?:FATAL|ERROR) |^Error\b")
_PORT = re.compile(r"Address already in use|failed to bind to [\w.\[\]:]*:\d+")


def explain(spec: LaunchSpec, output: str = "") -> BrokerError:
    """What to tell the user about a broker that ended; `output` is what the process itself printed."""
    text = output + "\n" + _log_of(spec)
    if _PORT.search(text):
        return PortTaken(
            f"Kafka did not start: a port it was given is in use (it should listen on {spec.address})",
            "run the command again: it takes another port",
        )
    reason, hint = _reason(text)
    if _is_full(spec.cwd):
        # Then its log has no room for the reason either.
        reason, hint = _DISK_FULL
    return BrokerError(f"Kafka did not start: {reason}", f"{hint} (log: {spec.log})")


def explain_tool(output: str, data: Path) -> BrokerError:
    """The same for Kafka's storage tool, which should have prepared `data`."""
    reason, hint = _reason(output)
    return BrokerError(f"Kafka's data folder {data} could not be prepared: {reason}", hint)


def explain_disk(folder: Path, problem: OSError) -> BrokerError:
    """What to tell the user when kpipe itself could not write below `folder`."""
    reason, hint = _reason(os.strerror(problem.errno) if problem.errno else str(problem))
    return BrokerError(f"Kafka can't be prepared in {problem.filename or folder}: {reason}", hint)


def _reason(text: str) -> tuple[str, str]:
    for pattern, reason, hint in _REASONS:
        if re.search(pattern, text):
            return reason, hint
    return _last_words(text), "check that folder and Kafka's log"


def _log_of(spec: LaunchSpec) -> str:
    try:
        folder = existing(spec.log.parent)
        if folder is None:
            return ""
        with folder, os.fdopen(folder.open(spec.log.name, os.O_RDONLY), "rb") as file:
            size = file.seek(0, 2)
            # Shorter than before means that it was rolled over since: then all of it is of this run.
            start = spec.log_start if size >= spec.log_start else 0
            file.seek(max(start, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except (OSError, StateError):
        return ""


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < _FULL_BYTES
    except OSError:
        return False


def _last_words(text: str) -> str:
    """The last exception, else the last error, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (_EXCEPTION, _ERROR):
        named = [line for line in lines if pattern.search(line)]
        if named:
            return _short(named[-1])
    return _short(lines[-1]) if lines else "it ended without a word"


def _short(line: str) -> str:
    """Without time, level and logger name, and no longer than a line or two."""
    line = re.sub(r"^[\d-]+ [\d:,.]+ [A-Z]+ ", "", line)
    line = re.sub(r" \([\w.$]+\)$", "", line)
    return line if len(line) <= 300 else line[:299] + "…"
