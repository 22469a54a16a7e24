"""From a pipeline to child specs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from orchestrator.config import load
from orchestrator.config.model import Pipeline
from orchestrator.errors import HandlerError, UsageError
from orchestrator.up.child_specs import Surroundings, check_before_start, children, chosen
from orchestrator.up.start_order import stages

FILE = """\
kpipe: 1
pipeline: shop
topics:
  orders: {dlq: orders.dlq}
  paid: {dlq: orders.dlq}
  shipped: {dlq: none}
handlers:
  tracking: {python: "t:f", consumes: [orders, paid, orders.dlq], dlq: none}
  payments: {python: "p:f", consumes: [orders], produces: [paid], replicas: 2, essential: true, env: {LIMIT: "5"}}
  api: {service: python -m web --name 'a b', port: 3001, ready: {http: /up}, produces: [orders], stop-timeout: 7s}
  view: {service: uvicorn app, restart: false}
  shipping: {python: "s:f", consumes: [paid], produces: [shipped], dlq: none}
"""


def pipeline(folder: Path, text: str = FILE) -> Pipeline:
    (folder / "pipeline.yaml").write_text(text)
    loaded = load([folder / "pipeline.yaml"], {})
    assert loaded.pipeline is not None, loaded.findings
    return loaded.pipeline


def around(folder: Path, environ: dict[str, str] | None = None) -> Surroundings:
    made = pipeline(folder)
    return Surroundings(made, (folder / "pipeline.yaml",), "k:9092", environ or {"PATH": "/bin", "HOME": "/h"})


def test_what_produces_stops_before_what_consumes(tmp_path: Path) -> None:
    stage = stages(pipeline(tmp_path))
    assert stage["api"] > stage["payments"] > stage["tracking"] and stage["payments"] > stage["shipping"]
    assert min(stage.values()) == 1, "0 is Kafka's"


def test_a_loop_in_the_flow_has_an_order_too(tmp_path: Path) -> None:
    text = """\
kpipe: 1
pipeline: loop
topics: {a: {dlq: none}, b: {dlq: none}}
handlers:
  one: {python: "x:f", consumes: [a], produces: [b], dlq: none}
  two: {python: "x:f", consumes: [b], produces: [a, b], dlq: none}
"""
    assert stages(pipeline(tmp_path, text)) == {"one": 2, "two": 2}


def test_workers(tmp_path: Path) -> None:
    where = around(tmp_path)
    first, second = (c for c in children(chosen(where.pipeline, ()), where) if c.group == "payments")
    assert (first.name, second.name, first.slot, second.slot) == ("payments.0", "payments.1", 0, 1)
    assert first.argv == (sys.executable, "-m", "orchestrator.worker.entry") and first.reports and first.essential
    assert first.config is not None and second.config is not None
    document = json.loads(second.config)
    assert document == {
        "pipeline": {
            "tree": where.pipeline.tree, "base": str(tmp_path), "schemas": None, "outside": [],
            "state_dir": str(tmp_path / ".kpipe"),
        },
        "bootstrap": "k:9092", "handler": "payments", "slot": 1,
    }  # fmt: skip
    assert first.env["LIMIT"] == "5" and first.env["HOME"] == "/h" and first.cwd == tmp_path
    assert not first.signal_group, "a worker drains with its helpers alive"
    assert "k:9092" not in " ".join(first.argv) and "tree" not in first.env


def test_services(tmp_path: Path) -> None:
    where = around(tmp_path)
    api, view = (c for c in children(chosen(where.pipeline, ()), where) if c.group in ("api", "view"))
    assert api.argv == (sys.executable, "-m", "web", "--name", "a b")
    assert (api.port, api.probe.port, api.probe.path, api.stop_timeout) == (3001, 3001, "/up", 7.0)
    assert api.config is None and not api.reports and api.signal_group
    told = {name: api.env[name] for name in ("KPIPE_PIPELINE_FILES", "KPIPE_BOOTSTRAP", "KPIPE_HANDLER", "PORT")}
    assert told == {
        "KPIPE_PIPELINE_FILES": str(tmp_path / "pipeline.yaml"),
        "KPIPE_BOOTSTRAP": "k:9092",
        "KPIPE_HANDLER": "api",
        "PORT": "3001",
    }
    assert api.env["PYTHONUNBUFFERED"] == "1" and api.env["PYTHONPATH"] == str(tmp_path)
    assert view.argv == ("uvicorn", "app") and not view.restart and "PORT" not in view.env
    assert view.env["PATH"] == os.pathsep.join([str(Path(sys.executable).parent), "/bin"])


def test_only_those_that_were_named(tmp_path: Path) -> None:
    made = pipeline(tmp_path)
    assert [h.name for h in chosen(made, ["api", "tracking"])] == ["tracking", "api"]
    with pytest.raises(UsageError) as refused:
        chosen(made, ["traking"])
    assert "`tracking`" in refused.value.hint


@pytest.mark.parametrize(
    ("target", "there"),
    [("nowhere:f", False), ("pkg.missing:f", False), ("pkg.there:f", True)],
)
def test_a_function_without_its_module_is_found_before_anything_starts(
    tmp_path: Path, target: str, there: bool
) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/there.py").write_text("raise SystemExit('imported')")
    handlers = f"{{it: {{python: '{target}', consumes: [a], dlq: none}}}}"
    made = pipeline(tmp_path, f"kpipe: 1\npipeline: p\ntopics: {{a: {{}}}}\nhandlers: {handlers}\n")
    if there:
        check_before_start(chosen(made, ()), made, {})
        return
    with pytest.raises(HandlerError) as refused:
        check_before_start(chosen(made, ()), made, {})
    module = target.partition(":")[0]
    assert refused.value.message == f"`it` could not start: there is no module {module}"
    assert f"`python: {target}`" in refused.value.hint and str(tmp_path) in refused.value.hint


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python -m nowhere", "there is no module nowhere"),
        ("python3 -m pkg.missing", "there is no module pkg.missing"),
        ("python -m pkg.inner.missing", "there is no module pkg.inner.missing"),
        ("python pkg/missing.py", "there is no file"),
        ("python -m pkg.inner.there", None),
        ("python -m loose.there", None),
        ("python -m http.server", None),
        ("python pkg/inner/there.py", None),
        ("python -c pass", None),
        ("python -m extra", None),
        ("other -m nowhere", None),
    ],
)
def test_a_module_that_is_not_there_is_found_before_anything_starts(
    tmp_path: Path, command: str, said: str | None
) -> None:
    for name in ("pkg/__init__.py", "pkg/inner/__init__.py", "pkg/inner/there.py", "loose/there.py", "more/extra.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("raise SystemExit('imported')")
    made = pipeline(tmp_path, f"kpipe: 1\npipeline: p\nhandlers: {{web: {{service: {command}}}}}\n")
    check = lambda: check_before_start(chosen(made, ()), made, {"PYTHONPATH": str(tmp_path / "more")})  # noqa: E731
    if said is None:
        check()
    else:
        with pytest.raises(HandlerError) as refused:
            check()
        assert said in refused.value.message
    assert "pkg" not in sys.modules, "looking must not import"
