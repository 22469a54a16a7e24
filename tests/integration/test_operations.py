"""kpipe's operations from a plain script: no command line, no output."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.supervised import wait_until
from tests.support.up import CODE, Up

pytestmark = pytest.mark.kafka

PAGE = Path(__file__).parents[2] / "docs" / "library.md"
FILE = """\
kpipe: 1
pipeline: shop
namespace: {namespace}
kafka: {{bootstrap: "{bootstrap}"}}
defaults: {{topic: {{partitions: 2}}}}
topics:
  orders: {{key: id, dlq: orders.dlq}}
  paid: {{key: id, dlq: none}}
handlers:
  payments: {{python: "pay:handle", consumes: [orders], produces: [paid], fuse: off}}
  tracking: {{python: "track:handle", consumes: [paid], dlq: none}}
"""
PAY = """
from orchestrator import Emit, Reject

def handle(event):
    if event.value["amount"] > 100:
        raise Reject("too much")
    return Emit("paid", event.value)
"""
TRACK = "def handle(event):\n    pass\n"
#: What the script did, for the test: it prints nothing itself.
REPORT = """
import sys
from pathlib import Path

found = {"orders": orders, "causes": causes, "outcomes": outcomes, "modules": sorted(sys.modules)}
Path("found.json").write_text(json.dumps(found))
"""


class Shop:
    """A project on the test's Kafka, and `kpipe` in its folder. Duck-typed for `Up`."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder = folder
        text = FILE.format(namespace=f"t{secrets.token_hex(5)}", bootstrap=bootstrap)
        for name, content in (("pipeline.yaml", text), ("pay.py", PAY), ("track.py", TRACK)):
            (folder / name).write_text(content)

    def kpipe(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", CODE, *words], cwd=self.folder, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def script(self, code: str) -> tuple[int, str, str]:
        """Run it as a program of its own: exit code, stdout, stderr."""
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.folder,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout, done.stderr


@pytest.fixture
def shop(tmp_path: Path, kafka: str) -> Iterator[Shop]:
    made = Shop(tmp_path, kafka)
    up = Up(made, (), {})  # type: ignore[arg-type]
    try:
        up.says("next: ", 90)
        yield made
        made.kpipe("down")
        assert up.ended() == 0
    finally:
        up.process.kill()
        up.process.wait()


def test_the_script_of_the_page(shop: Shop) -> None:
    for number in range(12):
        shop.kpipe("send", "orders", json.dumps({"id": f"o-{number}", "amount": 500 if number in (3, 4) else 5}))
    [block] = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert shop.script(block + REPORT) == (0, "", "")
    found: dict[str, Any] = json.loads((shop.folder / "found.json").read_text())
    assert [order["id"] for order in found["orders"]] == [f"o-{number}" for number in range(2, 12)]
    assert found["causes"] == [["Reject: too much", 2, "payments"]]
    assert found["outcomes"] == [["orders", "payments", "done"], ["paid", "tracking", "done"]]
    assert {"click", "rich", "starlette"}.isdisjoint(found["modules"])
    assert not [name for name in found["modules"] if name.startswith("orchestrator.cli.render")]


REDRIVE = """
import json
from pathlib import Path

from orchestrator.errors import KpipeError, UsageError
from orchestrator.operations.dead_letters.drop import delete, dlq_named, loss_of
from orchestrator.operations.dead_letters.listing import find_letter, list_causes
from orchestrator.operations.dead_letters.redrive import RedriveWatcher, redriving
from orchestrator.operations.lag import handler_lags
from orchestrator.operations.loading import Project
from orchestrator.operations.records.filters import filter_of
from orchestrator.operations.records.read import ReadOptions, last_records, reading
from orchestrator.operations.records.progress import Watcher
from orchestrator.operations.trace.collect import trace_event

class Seen(RedriveWatcher):
    def __init__(self): self.reports = []
    def sent(self, letters): self.reports.append(letters)

class Scanned(Watcher):
    records = 0
    def scanned(self, records): self.records = records

project = Project.load("pipeline.yaml")
[cause] = list_causes(project).causes
letter = find_letter(project, cause.sample.fingerprint)
seen, scanned = Seen(), Scanned()
with redriving(project, watcher=seen) as going_back:
    plan = going_back.plan()
    result = going_back.run(plan)
with redriving(project) as again:
    left = again.plan()
where = filter_of(None, (), None, "value.amount > `100`")
rich = last_records(project, "orders", filter=where)
with reading(project, ["orders", "paid"], ReadOptions(filter=where), scanned) as source:
    both = [record for batch in source.batches() for record in batch]
refused = []
for wrong in (lambda: last_records(project, "ordres"), lambda: trace_event(project, "nobody"),
              lambda: Project.load("other.yaml"), lambda: handler_lags(project, ["nobody"])):
    try:
        wrong()
    except KpipeError as error:
        refused.append([type(error).__name__, error.message.partition(",")[0], error.exit_code])
loss = loss_of(project, dlq_named(project.pipeline, "orders.dlq"))
delete(project.admin(), loss)
Path("found.json").write_text(json.dumps({
    "letter": [letter.dlq, letter.letter.reason], "plan": [plan.letters, plan.sent, list(plan.deliveries.items())],
    "result": [result.letters, result.sent], "reports": seen.reports[-1], "left": [left.letters, left.before],
    "rich": len(rich), "both": len(both), "scanned": scanned.records, "refused": refused,
    "loss": [loss.records, loss.waiting], "causes": len(list_causes(project).causes),
    "lags": [[lag.name, len(lag.partitions)] for lag in handler_lags(project)],
}))
"""


def test_letters_go_back_and_are_dropped_without_a_command(shop: Shop) -> None:
    for number in range(4):
        shop.kpipe("send", "orders", json.dumps({"id": f"o-{number}", "amount": 500 if number else 5}))
    wait_until("three letters", lambda: json.loads(shop.kpipe("dlq", "ls", "--json"))["letters"] == 3)
    (shop.folder / "pay.py").write_text(PAY.replace("> 100", "> 10_000"))
    shop.kpipe("restart", "payments")
    assert shop.script(REDRIVE) == (0, "", "")
    found = json.loads((shop.folder / "found.json").read_text())
    assert found["letter"] == ["orders.dlq", "rejected"]
    assert found["plan"] == [3, None, [[["payments", "orders"], 3]]]
    assert (found["result"], found["reports"], found["left"]) == ([3, 3], 3, [0, 3])
    assert found["rich"] == 3 and found["both"] >= 3 and found["scanned"] >= 5
    assert found["loss"] == [3, 0] and found["causes"] == 0
    assert found["lags"] == [["payments", 4], ["tracking", 2]]
    assert [kind for kind, _, _ in found["refused"]] == ["UsageError", "KpipeError", "UsageError", "UsageError"]
    assert found["refused"][2] == ["UsageError", "there is no file other.yaml", 2]
