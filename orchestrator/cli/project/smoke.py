"""`kpipe smoke`: the declared scenarios, run against a pipeline of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from orchestrator.cli.context import App
from orchestrator.cli.durations import DURATION
from orchestrator.cli.render import output
from orchestrator.errors import (
    EXIT_EXPECTATION,
    EXIT_OK,
    BrokerError,
    FindingsError,
    HandlerError,
    KpipeError,
    UsageError,
)

if TYPE_CHECKING:
    from orchestrator.config.model import Pipeline
    from orchestrator.config.scenarios import Scenario, Smoke
    from orchestrator.operations.smoke.runner import Verdict
    from orchestrator.operations.smoke.sandbox import RunningPipeline, Sandbox


@click.command("smoke")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option("--scenario", "names", multiple=True, metavar="NAME", help="Only this scenario.")
@click.option("--bootstrap", metavar="ADDRESS", help="On this cluster, in a namespace of its own.")
@click.option("--running", is_flag=True, help="Against the pipeline that `kpipe up` runs here.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Also write the results as JUnit XML.")
@click.option(
    "--start-timeout",
    type=DURATION,
    default="2m",
    show_default=True,
    metavar="DURATION",
    help="How long the start may take.",
)
@click.option("--keep", is_flag=True, help="Keep the folder with the logs and Kafka's data.")
@click.pass_obj
def command(
    app: App,
    files: tuple[Path, ...],
    names: tuple[str, ...],
    bootstrap: str | None,
    running: bool,
    junit: Path | None,
    start_timeout: float,
    keep: bool,
) -> int:
    """Try the pipeline: start it by itself, send events and requests, and check what comes of them.

    FILEs hold the scenarios; by default smoke.yaml and smoke/*.yaml beside the pipeline file. The pipeline gets a
    Kafka, data and ports of its own, which are gone afterwards; what runs here is left alone. Ends with 6 when an
    expectation is not met, and with 5 when a handler cannot start.
    """
    from orchestrator.cli.render import smoke_report

    if running and bootstrap:
        raise UsageError("--running and --bootstrap both say which Kafka", "give one of them")
    pipeline = app.load()
    smoke = _read(app, pipeline, files)
    scenarios = _chosen(smoke, names)
    began = time.monotonic()
    with _terminated():
        ground = _ground(app, pipeline, smoke, bootstrap or "", running)
        found: list[Verdict] = []
        try:
            _prove(ground, scenarios, smoke, start_timeout, found)
        except (KpipeError, KeyboardInterrupt, SystemExit) as problem:
            if junit is not None:
                took = time.monotonic() - began
                smoke_report.write_junit(junit, pipeline.name, found, scenarios, took, _reason(problem))
            raise
        finally:
            _close(ground, keep)
    seconds = time.monotonic() - began
    if junit is not None:
        smoke_report.write_junit(junit, pipeline.name, found, scenarios, seconds)
    smoke_report.show(found, seconds, as_json=app.json, alone=not running)
    return EXIT_OK if all(verdict.passed for verdict in found) else EXIT_EXPECTATION


def _read(app: App, pipeline: Pipeline, files: Sequence[Path]) -> Smoke:
    from orchestrator.config.scenarios import load_smoke, smoke_files
    from orchestrator.operations.smoke.matching import check_expression

    chosen = list(files) or smoke_files(app.files[0].parent, os.environ)
    if not chosen:
        raise UsageError(
            f"there is no smoke.yaml beside the pipeline file, in {pipeline.base}",
            "write one (docs/smoke.md), or name a file: kpipe smoke FILE",
        )
    smoke = load_smoke(chosen, pipeline, os.environ, check_expression, None if files else pipeline.base)
    if any(finding.severity == "error" for finding in smoke.findings):
        errors = len(smoke.findings)
        raise FindingsError(smoke.findings, f"{errors} error{'' if errors == 1 else 's'} in the smoke files")
    return smoke


def _chosen(smoke: Smoke, names: Sequence[str]) -> list[Scenario]:
    from orchestrator.text import did_you_mean

    known = [scenario.name for scenario in smoke.scenarios]
    for name in names:
        if name not in known:
            raise UsageError(
                f"there is no scenario `{name}`", did_you_mean(name, known) or f"there are {', '.join(known)}"
            )
    chosen = [scenario for scenario in smoke.scenarios if not names or scenario.name in names]
    if not chosen:
        raise UsageError("the smoke files have no scenarios", "write one under `scenarios` (docs/smoke.md)")
    return chosen


def _ground(app: App, pipeline: Pipeline, smoke: Smoke, bootstrap: str, running: bool) -> Sandbox | RunningPipeline:
    from orchestrator.operations.control import state_dir, status_of_running
    from orchestrator.operations.smoke.sandbox import RunningPipeline, Sandbox
    from orchestrator.targets import Target

    if running:
        if smoke.env:
            raise UsageError("`env` of a smoke file cannot reach a pipeline that runs already", "leave out --running")
        status = status_of_running(state_dir(app.files[0]))
        return RunningPipeline(pipeline, pipeline.kafka.bootstrap or status.bootstrap)
    return Sandbox(app.files, pipeline, bootstrap, smoke.env, Target.KPIPE.argv)


def _prove(
    ground: Sandbox | RunningPipeline, scenarios: Sequence[Scenario], smoke: Smoke, seconds: float, found: list[Verdict]
) -> None:
    """Run them all, into `found`."""
    from orchestrator.operations.smoke.runner import SmokeRunner
    from orchestrator.operations.smoke.sandbox import Sandbox

    if isinstance(ground, Sandbox):
        began = time.monotonic()
        output.say("starting the pipeline by itself" + (f", on {ground.bootstrap}" if ground.bootstrap else ""))
        ground.start(seconds)
        output.say(f"ready after {time.monotonic() - began:.1f} s")
    try:
        with SmokeRunner(ground, {**os.environ, **smoke.env}) as prover:
            for scenario in scenarios:
                output.in_place(f"{output.safe(scenario.name)} …")
                found.append(prover.prove(scenario))
            output.in_place("")
    except KpipeError as problem:
        if isinstance(ground, Sandbox) and type(problem) in (BrokerError, HandlerError, KpipeError):
            raise ground.explained(problem) from None
        raise


def _close(ground: Sandbox | RunningPipeline, keep: bool) -> None:
    from orchestrator.operations.smoke.sandbox import Sandbox

    output.in_place("")
    ground.close(keep=keep)
    if keep and isinstance(ground, Sandbox):
        output.say(f"logs and data are in {ground.folder}")


def _reason(problem: BaseException) -> str:
    if isinstance(problem, KpipeError):
        return "\n".join(filter(None, (problem.message, problem.hint)))
    return "interrupted"


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends it through its `finally` blocks, as Ctrl-C does."""

    def end(number: int, _frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
