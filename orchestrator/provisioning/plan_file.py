"""A plan as a file: what was reviewed is what is applied, or nothing is.

The file names the cluster and the topics (with their ids) that it was made for, every change with the value it was
made from, and a hash of all that. To apply it, the plan is made again from the pipeline file and the cluster: only
if it comes out the same does anything happen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import UsageError
from orchestrator.provisioning.impact import Impact
from orchestrator.provisioning.plan import Plan

VERSION = 1
#: Far more than the plan of the largest cluster Kafka can have.
_MAX_BYTES = 256_000_000
_AGAIN = "make a new one: `kpipe topics sync --dry-run --json > plan.json`"


def as_json(plan: Plan, impact: Sequence[Impact] = ()) -> dict[str, object]:
    """The shape of docs/json.md."""
    return _bound(plan) | {
        "impact": [hit.as_json() for hit in impact],
        "unknown": [{"topic": u.topic, "what": u.what, "reason": u.reason} for u in plan.unknown],
        "left_over": list(plan.left_over),
        "hash": _digest(_bound(plan)),
    }


def read(path: Path) -> dict[str, Any]:
    """The plan in a file. Raises UsageError for one that is none, or is not as it was written."""
    try:
        with path.open("rb") as stream:
            document = json.loads(stream.read(_MAX_BYTES))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", _AGAIN) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a plan: {error}", _AGAIN) from error
    if not isinstance(document, dict) or "hash" not in document or "changes" not in document:
        raise UsageError(f"{path} is not a plan of `kpipe topics sync`", _AGAIN)
    if document.get("version") != VERSION:
        raise UsageError(f"{path} is a plan of another version of kpipe", _AGAIN)
    if document["hash"] != _digest({key: document.get(key) for key in _BOUND}):
        raise UsageError(f"{path} was changed after kpipe wrote it", _AGAIN)
    return document


def require_same(document: Mapping[str, Any], fresh: Plan) -> None:
    """Raises UsageError, naming what moved, unless `fresh` is the plan that `document` holds."""
    now = _bound(fresh)
    moved = [f"{what}: {why}" for what in _BOUND if (why := _difference(what, document[what], now[what]))]
    if moved:
        raise UsageError(f"the plan is stale, nothing was changed ({'; '.join(moved)})", _AGAIN)


_BOUND = ("version", "cluster_id", "pipeline", "prune", "topics", "changes")


def _bound(plan: Plan) -> dict[str, Any]:
    return {
        "version": VERSION,
        "cluster_id": plan.cluster_id,
        "pipeline": plan.owner,
        "prune": plan.pruned,
        "topics": dict(plan.topics),
        "changes": [change.as_json() for change in plan.changes],
    }


def _digest(bound: Mapping[str, Any]) -> str:
    text = json.dumps(bound, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _difference(what: str, then: Any, now: Any) -> str:
    if then == now:
        return ""
    if what == "topics":
        names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
        return f"{_some(names)} came, went or was made again"
    if what == "changes":
        names = sorted({change["topic"] for change in (*then, *now) if (change in then) != (change in now)})
        return f"{_some(names)} no longer differs in the same way"
    return f"{then} then, {now} now"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
