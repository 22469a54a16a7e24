"""What every command is given: the pipeline files and the output options of this call."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.render.output import OutputMode
from orchestrator.errors import UsageError

if TYPE_CHECKING:
    from orchestrator.config import Loaded
    from orchestrator.config.model import Pipeline
    from orchestrator.operations.loading import Project

DEFAULT_FILE = Path("pipeline.yaml")


@dataclass
class App:
    """The object behind `click.pass_obj`.

    The options may stand before or after the command's name: they are complete once the command itself runs.
    """

    given: tuple[Path, ...] = ()
    output: OutputMode = field(default_factory=OutputMode)
    verbose: bool = False

    @property
    def json(self) -> bool:
        """Whether results are printed as JSON."""
        return self.output.json

    @property
    def files(self) -> tuple[Path, ...]:
        """The pipeline file and its overlays, in the order they are merged."""
        return self.given or (DEFAULT_FILE,)

    def read(self) -> Loaded:
        """The files as they are, with every finding. Raises `UsageError` when one does not exist."""
        from orchestrator.operations.loading import read_files

        self._must_exist()
        return read_files(self.files)

    def project(self) -> Project:
        """A valid project. Raises `FindingsError` (every finding at once) or `UsageError`."""
        from orchestrator.operations.loading import Project

        return Project.of(self.files, self.read())

    def load(self) -> Pipeline:
        """Its pipeline. Raises as `project` does."""
        return self.project().pipeline

    def _must_exist(self) -> None:
        """What the user typed decides which hint helps."""
        for path in self.files:
            if path.is_file() or path.is_dir():
                continue
            if self.given:
                raise UsageError(f"there is no file {path}", "give the pipeline file's path: kpipe -f FILE …")
            raise UsageError(
                f"there is no {path} in {Path.cwd()}",
                "run kpipe in the folder that holds it, or name the file: kpipe -f FILE …",
            )
