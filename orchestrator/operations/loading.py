"""A project: its pipeline files, loaded once, and the way to its cluster. Every operation starts from one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import BrokerError, FindingsError, UsageError

if TYPE_CHECKING:
    from orchestrator.config import Loaded
    from orchestrator.config.model import Pipeline
    from orchestrator.contracts import Contract
    from orchestrator.kafka.admin.admin import ClusterAdmin
    from orchestrator.kafka.clients import Clients
    from orchestrator.kafka.reader import Reader


@dataclass(frozen=True)
class Project:
    """A pipeline that is valid. `files` are the pipeline file and its overlays, in the order they are merged."""

    files: tuple[Path, ...]
    loaded: Loaded
    pipeline: Pipeline

    @classmethod
    def load(cls, *files: Path | str, environ: Mapping[str, str] = os.environ) -> Project:
        """The project of these files, in the order they are merged.

        Raises `UsageError` for a file that does not exist, `FindingsError` with everything that is wrong in them.
        """
        paths = tuple(map(Path, files))
        return cls.of(paths, read_files(paths, environ))

    @classmethod
    def of(cls, files: Sequence[Path], loaded: Loaded) -> Project:
        """The project of files that are read already. Raises `FindingsError`."""
        if loaded.pipeline is None:
            raise FindingsError(loaded.findings)
        return cls(tuple(files), loaded, loaded.pipeline)

    @cached_property
    def contracts(self) -> Mapping[str, Contract]:
        """The contract of every topic, by the file's name of the topic; compiled when first asked for.

        Raises `FindingsError` when a schema is wrong.
        """
        from orchestrator.contracts import load_contracts

        return load_contracts(self.pipeline)

    @property
    def bootstrap(self) -> str:
        """Where Kafka answers: `kafka.bootstrap`, or the broker that kpipe started for this folder.

        Raises `BrokerError` when there is neither. Nothing is connected to: the address may be out of date.
        """
        if self.pipeline.kafka.bootstrap:
            return self.pipeline.kafka.bootstrap
        from orchestrator.brokers import recorded

        record = recorded(self.pipeline.state_dir)
        if record is None:
            raise BrokerError(
                "no Kafka is running for this pipeline",
                "start one with `kpipe up` or `kpipe broker start`, or set kafka.bootstrap in the file",
            )
        return record.address

    @property
    def clients(self) -> Clients:
        """What makes clients of its cluster. Raises as `bootstrap` does."""
        from orchestrator.kafka.clients import Clients

        return Clients(self.pipeline.kafka, self.bootstrap)

    def reader(self, *, needs: str = "READ") -> Reader:
        """A connection for reading topics; a context manager. Raises as `bootstrap` does.

        `needs` is the permission on topics that an error names when it is missing.
        """
        return self.clients.reader(needs=needs)

    def admin(self) -> ClusterAdmin:
        """A connection for looking after topics and groups. Raises as `bootstrap` does."""
        return self.clients.admin()


def read_files(files: Sequence[Path], environ: Mapping[str, str] = os.environ) -> Loaded:
    """The files as they are, with every finding. Raises `UsageError` when one does not exist."""
    from orchestrator.config import load

    for path in files:
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "name the pipeline file inside it")
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
    return load(files, environ)
