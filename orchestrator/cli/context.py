"""What every command is given: the pipeline files and the output options of this call."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import BrokerError, FindingsError, UsageError

if TYPE_CHECKING:
    from orchestrator.config import Loaded
    from orchestrator.config.model import Pipeline
    from orchestrator.kafka.reader import Reader

DEFAULT_FILE = Path("pipeline.yaml")


@dataclass
class App:
    """The object behind `click.pass_obj`.

    The options may stand before or after the command's name: they are complete once the command itself runs.
    """

    given: tuple[Path, ...] = ()
    json: bool = False
    color: bool = True
    verbose: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """The pipeline file and its overlays, in the order they are merged."""
        return self.given or (DEFAULT_FILE,)

    def read(self) -> Loaded:
        """The files as they are, with every finding. Raises `UsageError` when one does not exist."""
        from orchestrator.config import load

        for path in self.files:
            self._must_exist(path)
        return load(self.files, os.environ)

    def load(self) -> Pipeline:
        """A valid pipeline. Raises `FindingsError` (every finding at once) or `UsageError`."""
        loaded = self.read()
        if loaded.pipeline is None:
            raise FindingsError(loaded.findings)
        return loaded.pipeline

    def bootstrap(self, pipeline: Pipeline) -> str:
        """Where Kafka answers: `kafka.bootstrap`, or the broker that kpipe started for this folder.

        Raises `BrokerError` when there is neither. Nothing is connected to: the address may be out of date.
        """
        if pipeline.kafka.bootstrap:
            return pipeline.kafka.bootstrap
        from orchestrator.brokers import recorded

        record = recorded(pipeline.state_dir)
        if record is None:
            raise BrokerError(
                "no Kafka is running for this pipeline",
                "start one with `kpipe up` or `kpipe broker start`, or set kafka.bootstrap in the file",
            )
        return record.address

    def reader(self, pipeline: Pipeline, *, needs: str = "READ") -> Reader:
        """A connection for looking at the pipeline's cluster; a context manager. Raises as `bootstrap` does.

        `needs` is the permission on topics that an error names when it is missing.
        """
        from orchestrator.kafka.properties import client_properties
        from orchestrator.kafka.reader import Reader

        return Reader(client_properties(pipeline.kafka, "consumer", self.bootstrap(pipeline)), needs=needs)

    def _must_exist(self, path: Path) -> None:
        if path.is_file():
            return
        if path.is_dir():
            raise UsageError(f"{path} is a folder", "name the pipeline file inside it")
        if self.given:
            raise UsageError(f"there is no file {path}", "give the pipeline file's path: kpipe -f FILE …")
        raise UsageError(
            f"there is no {path} in {Path.cwd()}",
            "run kpipe in the folder that holds it, or name the file: kpipe -f FILE …",
        )
