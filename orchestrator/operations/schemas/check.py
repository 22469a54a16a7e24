"""Whether the contracts are compatible with an earlier version, and whether records on Kafka keep them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orchestrator.errors import IncompatibleError
from orchestrator.operations.schemas.diff import Compared, compare_contracts
from orchestrator.operations.schemas.versions import DEFAULT, version_of

if TYPE_CHECKING:
    from orchestrator.contracts.evolution.compatibility import Level
    from orchestrator.operations.loading import Project
    from orchestrator.operations.schemas.sample import Sample


@dataclass(frozen=True, slots=True)
class ContractCheck:
    """Contracts beside those of `version`, a git revision or a folder, and samples of records by topic.

    `level` and `strict` are what was required.
    """

    version: str
    level: Level
    strict: bool
    contracts: tuple[Compared, ...]
    samples: Mapping[str, Sample]

    @property
    def broken(self) -> list[str]:
        """The topics whose contract breaks the required compatibility."""
        return [one.topic for one in self.contracts if one.breaks(self.level, self.strict)]

    @property
    def failing(self) -> list[str]:
        """The topics with a record that kept the earlier contract and breaks the new one."""
        return [topic for topic, sample in self.samples.items() if sample.broken]

    def raise_if_incompatible(self) -> None:
        """Raises IncompatibleError when a contract is broken, or when a record would fail."""
        if broken := self.broken:
            count = f"{len(broken)} contract{'s break' if len(broken) > 1 else ' breaks'}"
            what = "the required compatibility" if self.level == "full" else f"{self.level} compatibility"
            raise IncompatibleError(
                f"{count} {what} with {self.version}: {', '.join(broken)}",
                "change them so that both versions can be read, send to a new topic, or ask for less with --require",
            )
        if failing := self.failing:
            raise IncompatibleError(
                f"records on Kafka would fail the new contract: {', '.join(failing)}",
                "handlers that have not read them yet would dead-letter them",
            )


def check_contracts(
    project: Project,
    against: str | None = None,
    level: Level = "full",
    *,
    strict: bool = False,
    sample: int | None = None,
) -> ContractCheck:
    """Every contract beside its version of `against` (a git revision or a folder; without it HEAD).

    `sample` reads so many of the last records of each topic; without it no Kafka is asked. Raises UsageError for a
    version that cannot be read, FindingsError for a schema that is wrong, BrokerError.
    """
    contracts = project.contracts  # before anything is compared: a schema may be wrong
    pipeline = project.pipeline
    version = version_of(against or DEFAULT, pipeline.base)
    compared = compare_contracts(pipeline, project.files, version)
    samples: dict[str, Sample] = {}
    if sample:
        from orchestrator.operations.schemas.sample import take_sample

        with project.reader() as reader:
            for one in compared:
                if one.state != "removed":
                    topic = pipeline.topics[one.topic]
                    samples[one.topic] = take_sample(reader, topic, contracts[one.topic], one.earlier, sample)
    return ContractCheck(version.name, level, strict, tuple(compared), samples)
