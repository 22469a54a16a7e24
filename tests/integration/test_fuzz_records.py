"""Random records against everything that reads: a warm worker, and the commands. Nothing dies, and nothing is lost.

`KPIPE_FUZZ_SEED` draws other records than the suite's own, `KPIPE_FUZZ_RECORDS` more of them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from orchestrator.delivery.headers.dead_letters import read_letter
from orchestrator.delivery.headers.lineage import source_of
from orchestrator.records import Record
from tests.support.foreign import Foreign, RawHeaders, send
from tests.support.noise import Noise, allow, write
from tests.support.shell import kpipe, raw
from tests.support.worker import Project

pytestmark = pytest.mark.kafka

SEED = int(os.environ.get("KPIPE_FUZZ_SEED", "20261130"))
RECORDS = int(os.environ.get("KPIPE_FUZZ_RECORDS", "5000"))
#: Before the noise: calls are specialised after a few runs.
WARM = 200
PARTITIONS = 3

YAML = f"""
pipeline: fuzz
defaults: {{topic: {{partitions: {PARTITIONS}}}}}
topics:
  in: {{schema: in.json, dlq: in.dlq}}
  out: {{dlq: out.dlq}}
handlers:
  h:
    python: code:handle
    consumes: [in]
    produces: [out]
    dlq: in.dlq
    guarantee: GUARANTEE
    retry: {{attempts: 1}}
    fuse: off
    dedup: {{by: id, window: 10m}}
  mop:
    python: code:mop
    consumes: [in.dlq]
    retry: {{attempts: 1}}
"""
SCHEMA = '{"type": "object"}'
CODE = """
from orchestrator import Emit, Reject

def handle(event):
    what = event.value.get("do") if event.value is not None else None
    if what == "reject":
        raise Reject(f"{event.key!r} \\udcff\\ud800")
    if what == "raise":
        raise ValueError(event.headers)
    if what == "odd":
        return Emit("out", {}, headers={"\\ud800": "v"})
    return Emit("out", {}, headers=event.headers)

def mop(event):
    repr((event, event.letter, event.value))
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("guarantee", ["at-least-once", "exactly-once"])
def test_whatever_a_record_has_it_ends_as_done_letter_or_skipped(tmp_path: Path, kafka: str, guarantee: str) -> None:
    print(f"KPIPE_FUZZ_SEED={SEED}")
    project = Project(tmp_path, kafka, YAML.replace("GUARANTEE", guarantee), {"code.py": CODE, "in.json": SCHEMA})
    topic, dlq, out = map(project.name, ("in", "in.dlq", "out"))
    allow(project, (topic, dlq, out))
    noise = Noise(SEED, project.pipeline.handlers["h"].group, (topic, dlq, out))
    forged = [*noise.records(dlq, PARTITIONS, 300), *noise.records(out, PARTITIONS, 100)]
    write(kafka, forged)
    sent = [Foreign(topic, b"k", b'{"n":1}', ((b"a", b"b"),), n % PARTITIONS) for n in range(WARM)]
    with project.worker("h") as worker, project.worker("mop") as mop:
        send(kafka, sent)
        worker.wait_settled(WARM)
        more = noise.records(topic, PARTITIONS, RECORDS)
        write(kafka, more)
        sent += more
        counts = worker.wait_settled(len(sent), 120)
        letters = [r for r in project.read("in.dlq") if is_ours(project, r)]
        assert mop.wait_settled(len(project.read("in.dlq")))["dead_lettered"] == 0
        assert worker.terminate() == mop.terminate() == 0
    assert "Traceback" not in worker.log + mop.log
    check(project, placed(sent), counts, letters)
    if guarantee == "at-least-once":  # the commands do not know which it was
        check_commands(project, placed(sent))


def placed(sent: Iterable[Foreign]) -> dict[tuple[int, int], Foreign]:
    """By partition and offset: a partition has the records in the order in which they were sent."""
    at: dict[int, int] = {}
    places = {}
    for record in sent:
        offset = at.get(record.partition, 0)
        at[record.partition] = offset + 1
        places[record.partition, offset] = record
    return places


def is_ours(project: Project, record: Record) -> bool:
    """Whether a worker wrote this letter: those that were forged came without the pipeline's name behind the id."""
    said = dict(record.headers)
    return said.get("kpipe-dlq-pipeline") == project.pipeline.name.encode()


def check(
    project: Project,
    sent: dict[tuple[int, int], Foreign],
    counts: dict[str, int],
    letters: Sequence[Record],
) -> None:
    """Every record has one end, and is there unchanged where it is a letter or was passed on."""
    assert counts["in"] == len(sent) and counts["in_flight"] == 0
    assert counts["done"] + counts["dead_lettered"] + counts["skipped"] == len(sent)
    buried = {}
    for record in letters:
        letter = read_letter(record.headers)
        assert letter is not None
        place = letter.partition, letter.offset
        assert place not in buried
        buried[place] = letter.reason
        origin = sent[place]
        assert (record.key, record.value) == (origin.key, origin.value)
        kept = [(n, v) for n, v in as_read(origin.headers) if not n.startswith(b"kpipe-dlq-")]
        assert list(as_bytes(record))[: len(kept)] == kept, place
        assert all(name.startswith(b"kpipe-dlq-") for name, _ in list(as_bytes(record))[len(kept) :])
    assert len(buried) == counts["dead_lettered"]
    assert {"decode", "schema", "rejected", "exhausted", "output"} == set(buried.values())
    done = set()
    for record in project.read("out"):
        own = list(as_bytes(record))
        source = source_of(record.headers[-4:])
        if source is None or source.group != project.pipeline.handlers["h"].group or record.value != b"{}":
            continue  # forged
        place = source.place.partition, source.offset
        kept = [(n, v) for n, v in as_read(sent[place].headers) if not n.startswith(b"kpipe-")]
        if own[: len(kept)] == kept:
            done.add(place)
    assert not done & buried.keys()
    assert len(done) == counts["done"]


def check_commands(project: Project, sent: dict[tuple[int, int], Foreign]) -> None:
    """Each shows what there is, and ends as it should."""
    shown = {}
    for line in run(project, "tail", "in", "-o", "beginning", "--json").splitlines():
        shape = json.loads(line)
        shown[shape["partition"], shape["offset"]] = tuple((of(name), of(value)) for name, value in shape["headers"])
    assert shown == {place: as_read(record.headers) for place, record in sent.items()}
    by_format = raw(project.folder, "tail", "in", "-o", "beginning", "--format", "%p %o %h\\0").stdout.split(b"\0")
    assert len(by_format) >= len(sent)
    for words in (
        ("tail", "in", "in.dlq", "out", "-o", "beginning", "--where", "letter.violations || length(headers) > `0`"),
        ("lag",),
        ("dlq", "ls"),
        ("dlq", "redrive", "in.dlq", "--dry-run"),
    ):
        run(project, *words)
    run(project, "schemas", "check", "--require", "none", "--sample", "1000", codes=(2,))
    listed = json.loads(run(project, "dlq", "ls", "--json"))
    for group, words in zip(listed["groups"], ((), ("--json",)), strict=False):
        run(project, "dlq", "show", group["fingerprint"] or group["sample"]["id"], *words)
    # The records whose headers lie the most.
    liars = sorted(sent, key=lambda place: sum(name.startswith(b"kpipe-") for name, _ in sent[place].headers))
    for (partition, offset), words in zip(liars[-2:], ((), ("--json",)), strict=True):
        run(project, "trace", f"in/{partition}/{offset}", *words)


def run(project: Project, *words: str, codes: Sequence[int] = (0,)) -> str:
    done = kpipe(project.folder, *words, timeout=120)
    assert done.code in codes and "Traceback" not in done.err, (words, done.code, done.err[-2000:])
    return done.out


def of(shown: Any) -> bytes | None:
    if shown is None:
        return None
    return base64.b64decode(shown["base64"]) if isinstance(shown, dict) else str(shown).encode()


def as_read(headers: RawHeaders) -> RawHeaders:
    """librdkafka gives a name as a C string: up to its first NUL."""
    return tuple((name.partition(b"\0")[0], value) for name, value in headers)


def as_bytes(record: Record) -> Iterable[tuple[bytes, bytes | None]]:
    return ((name.encode("utf-8", "surrogateescape"), value) for name, value in record.headers)
