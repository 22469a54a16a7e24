"""A folder with a small pipeline on a real cluster, and `kpipe topics` run in it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from orchestrator.config.model import KafkaSettings
from orchestrator.kafka.admin.admin import ClusterAdmin
from orchestrator.kafka.admin.claims import ClaimsTopic
from orchestrator.kafka.clients import Clients
from orchestrator.kafka.properties import client_properties
from orchestrator.records import Claim

PIPELINE = """\
kpipe: 1
pipeline: shop
namespace: {namespace}
kafka: {{bootstrap: "{bootstrap}"}}
topics:
  orders: {{dlq: orders.dlq{more}}}
"""


def write(folder: Path, bootstrap: str, namespace: str = "dev", more: str = "") -> None:
    text = PIPELINE.format(bootstrap=bootstrap, namespace=namespace, more=more)
    (folder / "pipeline.yaml").write_text(text)


def kpipe(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    code = "import sys; from orchestrator.cli.main import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


class Shop:
    """A folder with a pipeline on the real cluster, under a namespace of its own."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder, self.bootstrap = folder, bootstrap
        self.namespace = f"t{uuid.uuid4().hex[:10]}"
        self.admin = ClusterAdmin(client_properties(KafkaSettings(), "admin", bootstrap))
        self.declare()

    def declare(self, more: str = "", rest: str = "") -> None:
        """`more` options of `orders`, and the `rest` of the file."""
        write(self.folder, self.bootstrap, self.namespace, f", {more}" if more else "")
        path = self.folder / "pipeline.yaml"
        path.write_text(path.read_text() + rest)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = kpipe(self.folder, "topics", *words)
        assert "Traceback" not in done.stderr
        return done

    @property
    def topic(self) -> str:
        return f"{self.namespace}.orders"

    def names(self) -> list[str]:
        return sorted(name for name in self.admin.topic_names() if name.startswith(self.namespace))

    def claims(self) -> dict[str, Claim]:
        """This pipeline's claims by the cluster's names."""
        every, why = self.registry().read()
        assert not why
        return {topic: claim for (topic, owner), claim in every.items() if owner == f"{self.namespace}.shop"}

    def registry(self) -> ClaimsTopic:
        return Clients(KafkaSettings(), self.bootstrap).topics().claims

    def listed(self) -> dict[str, Any]:
        rows = json.loads(self.run("ls", "--json").stdout)["topics"]
        return {row["name"]: row for row in rows}
