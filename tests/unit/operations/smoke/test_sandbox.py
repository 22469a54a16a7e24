"""What is laid over a pipeline file where it is tried by itself."""

from __future__ import annotations

from pathlib import Path

from orchestrator.operations.smoke.sandbox import Sandbox
from tests.support.config import document, loaded

PIPELINE = document(
    topics={"t": {}},
    defaults={"handler": {"env": {"KEPT": "file"}}},
    handlers={"s": {"service": "x"}, "h": {"python": "m:f", "consumes": ["t"], "dlq": "none", "env": {"OWN": "file"}}},
)


def test_every_handler_gets_the_smoke_files_env_below_what_the_pipeline_file_says(tmp_path: Path) -> None:
    pipeline = loaded(tmp_path, PIPELINE).pipeline
    assert pipeline is not None
    env = {"NEW": "costs $5 ${HOME}", "OWN": "smoke", "KEPT": "smoke"}
    stage = Sandbox((tmp_path / "pipeline.yaml",), pipeline, "127.0.0.1:1", env, ["kpipe"])
    try:
        made = {name: dict(handler.env) for name, handler in stage.pipeline.handlers.items()}
    finally:
        stage._clean_up = False
        stage.close(keep=False)
    assert made["s"] == {"KEPT": "file", "NEW": "costs $5 ${HOME}", "OWN": "smoke"}
    assert made["h"] == {"KEPT": "file", "NEW": "costs $5 ${HOME}", "OWN": "file"}
