"""`kpipe send --fake`: events that are made up from the contract of their topic."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ContractError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from orchestrator.config.model import Topic
    from orchestrator.contracts import Contract
    from orchestrator.operations.send.drafts import Draft

#: What cannot be made up valid in so many attempts, is not.
_ATTEMPTS = 200
#: With a seed the same data comes out on any day.
_DAY_OF_A_SEED = datetime(2026, 1, 1, tzinfo=UTC)


class FakeEvents:
    """Makes up the values of one call of `send`."""

    def __init__(self, topic: Topic, contract: Contract, base: Path, seed: int | None) -> None:
        """Raises `UsageError` when the topic has no schema."""
        from orchestrator.contracts.codec import decode_json
        from orchestrator.contracts.fake import Fake
        from orchestrator.contracts.sources import files_of

        if topic.schema is None:
            raise UsageError(
                f"{topic.name} has no schema to make up events from", "declare one (`schema:`), or send an example"
            )
        path, files = base / topic.schema, files_of(base)
        today = datetime.fromtimestamp(time.time(), UTC) if seed is None else _DAY_OF_A_SEED
        self._fake = Fake(decode_json(files.read(path)), path, Random(seed), today, files)
        self._topic, self._contract = topic, contract

    def value(self, draft: Draft, *, validate: bool) -> Any:
        """An event that keeps the contract, with what the user gives over it. Raises `UsageError`, `ContractError`."""
        from orchestrator.contracts.fake import CannotFake, budget

        value: Any = None
        within = budget()
        for _ in range(_ATTEMPTS):
            try:
                start = self._fake.value(within)
            except CannotFake as wrong:
                raise UsageError(
                    f"no event can be made up from {self._topic.schema}: {wrong}", "send an example, or the JSON itself"
                ) from wrong
            value = self._finished(start, draft)
            if self._contract.is_valid(value if validate else start):
                return value
        broken = [(violation.path, violation.message) for violation in self._contract.violations(value)]
        hint = "nothing more was sent; give what is named there: --set FIELD=VALUE, or JSON"
        raise ContractError(f"no event could be made up that keeps the contract of {self._topic.name}", broken, hint)

    def _finished(self, start: Any, draft: Draft) -> Any:
        from orchestrator.contracts.examples import build_example

        known: Mapping[str, str] = draft.generate if isinstance(start, dict) else {}
        return build_example(
            start, known, draft.patches, draft.assignments, new_id=self._fake.uuid,
            now=lambda: self._fake.moment().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )  # fmt: skip
