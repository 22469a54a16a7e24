"""The pages hold: links, paths and names in them exist, and what can be run in them runs."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from orchestrator.config import load
from orchestrator.delivery.admission import AdmissionLimits
from orchestrator.delivery.dedup import Dedup
from orchestrator.delivery.headers.dead_letters import CUTS, PREFIX, Death, Sender, read_letter, write_letter
from orchestrator.delivery.offsets.checkpoint import MOST_RANGES
from orchestrator.delivery.outcome import Failed, Reason
from orchestrator.event import Emit, Event, Letter
from orchestrator.records import Record
from orchestrator.worker.consume.poller import AHEAD_EVENTS, HOLD_SECONDS
from orchestrator.worker.engine.serial import BATCH_EVENTS, BATCH_SECONDS
from orchestrator.worker.replica import HUNG_GRACE, LEAVING_SECONDS
from tests.support.worker import Project

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
GRAMMAR_KEYS = ("kpipe", "kafka", "topics", "events", "handlers")
#: What a fragment of a pipeline file cannot have: the rest of the file, and the files of the reader.
OF_A_FRAGMENT = {"missing-file", "unknown-topic", "no-dlq", "interpolation", "missing-key", "unproduced"}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def prose(text: str) -> str:
    """Without code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {slug(heading) for heading in headings}


def words(text: str, pattern: str) -> list[str]:
    return re.findall(rf"`({pattern})`", text)


# -- links and words --------------------------------------------------------------------------------------------------


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_relative_to(ROOT) and there.exists(), target
        assert not anchor or anchor in anchors(there), target


@every_page
def test_no_page_names_a_machine_or_a_registry(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.~])/(work|tmp|root|usr/local)\b", text)
    for host in ("pypi.org", "pythonhosted.org", "repo.maven", "repo1.maven", "npmjs", "crates.io", "proxy.golang"):
        assert host not in text


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", readme))
    assert linked == {name_of(page) for page in PAGES if page.parent.name == "docs"}


@every_page
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), name


def test_the_numbers_are_those_of_the_code() -> None:
    page = " ".join((ROOT / "docs" / "delivery.md").read_text(encoding="utf-8").split())
    limits = AdmissionLimits()
    ids = inspect.signature(Dedup).parameters["limit"].default
    for said in (
        f"Up to {BATCH_EVENTS:,} events of each partition run in a turn, for {BATCH_SECONDS} s in all",
        f"While {AHEAD_EVENTS:,} events of each partition that has some wait",
        f"no more are taken, for {HOLD_SECONDS} s at most",
        f"paused at {limits.partition_events:,} events or {limits.partition_bytes // 1_000_000} MB",
        f"at most {limits.worker_bytes // 1_000_000} MB",
        f"up to {MOST_RANGES} settled ranges",
        f"up to {ids:,} ids a partition",
        f"`timeout` + {HUNG_GRACE:g} s, at most `stop-timeout` - {LEAVING_SECONDS:g} s",
    ):
        assert said in page


# -- architecture.md --------------------------------------------------------------------------------------------------


def mapped() -> dict[str, set[str]]:
    """Folder -> the files in its table."""
    parts = re.split(r"^### ([\w/]+)/$", ARCHITECTURE, flags=re.MULTILINE)
    return {
        folder: set(re.findall(r"^\| `([\w.]+)` \|", text.split("\n## ")[0], flags=re.MULTILINE))
        for folder, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def sources(folder: Path) -> set[str]:
    """What is worth a line: no empty `__init__.py`, no marker."""
    files = (f for f in folder.iterdir() if f.is_file() and f.suffix in {".py", ".json", ".yaml"})
    return {f.name for f in files if f.name != "__init__.py" or len(f.read_text(encoding="utf-8").splitlines()) > 5}


def folders() -> Iterator[Path]:
    packages = (init.parent for init in (ROOT / "orchestrator").rglob("__init__.py"))
    yield from (*packages, ROOT / "handlers")


@pytest.mark.parametrize("folder", list(folders()), ids=name_of)
def test_the_map_has_a_line_for_every_module_and_no_other(folder: Path) -> None:
    assert mapped()[name_of(folder)] == sources(folder)


@pytest.mark.parametrize(("page", "least"), [("docs/architecture.md", 50), ("CONTRIBUTING.md", 20)])
def test_every_file_that_a_page_for_developers_names_exists(page: str, least: int) -> None:
    named = words(prose((ROOT / page).read_text(encoding="utf-8")), r"[\w.-]+/(?:[\w.-]+/?)*|pipeline\.yaml")
    assert len(named) > least
    for path in named:
        places = [base / path for base in (ROOT, ROOT / "orchestrator", ROOT / "tests")]
        assert any(place.exists() for place in places), path


def test_every_dependency_has_its_line_and_every_line_its_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {match[0] for d in asked if (match := re.match(r"[\w-]+", d))} - {project["name"]}
    table = ARCHITECTURE.split("\n## Dependencies\n")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, flags=re.MULTILINE)) == names


# -- examples ---------------------------------------------------------------------------------------------------------


def pipelines() -> Iterator[Any]:
    for page in PAGES:
        for text in blocks(page.read_text(encoding="utf-8"), "yaml"):
            tree = yaml.safe_load(text)
            if isinstance(tree, dict) and tree.keys() & set(GRAMMAR_KEYS):
                yield pytest.param(page, text, id=f"{name_of(page)}:{next(iter(tree))}")


@pytest.mark.parametrize(("page", "text"), list(pipelines()))
def test_pipelines_and_parts_of_them_are_right(page: Path, text: str, tmp_path: Path) -> None:
    whole = text.startswith("kpipe:")
    file = tmp_path / "pipeline.yaml"
    file.write_text(text if whole else f"kpipe: 1\npipeline: fragment\n{text}", encoding="utf-8")
    for name, content in files_of(page.read_text(encoding="utf-8")).items():
        if name != file.name:
            (tmp_path / name).write_text(content, encoding="utf-8")
    tolerated = {"missing-file"} if whole else OF_A_FRAGMENT
    assert [f for f in load([file], {}).findings if f.code not in tolerated] == []


def files_of(page: str) -> dict[str, str]:
    """The files that a page shows: a line with a name and a colon, then a block."""
    found = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    return dict(found)


@pytest.mark.kafka
def test_the_handler_of_the_readme_does_what_it_says(tmp_path: Path, kafka: str) -> None:
    files = files_of((ROOT / "README.md").read_text(encoding="utf-8"))
    pipeline = files.pop("pipeline.yaml").replace("kpipe: 1\n", "")
    project = Project(tmp_path, kafka, pipeline, files)
    readings = [
        {"eventId": f"00000000-0000-4000-8000-00000000000{n}", "sensor": "attic", "celsius": celsius}
        for n, celsius in enumerate((21.5, 35, -300))
    ]
    project.send("readings", readings, key=lambda value: str(value["sensor"]))
    with project.worker("watch") as worker:
        counts = worker.wait_settled(3)
        worker.terminate()
    assert (counts["done"], counts["dead_lettered"]) == (2, 1)
    assert project.values("alarms") == [{"sensor": "attic", "celsius": 35}]
    [record] = project.read("readings.dlq")
    letter = read_letter(record.headers)
    assert letter is not None
    assert (letter.reason, letter.error_message) == ("rejected", "-300 °C is below absolute zero")


def test_python_in_handlers_md_runs() -> None:
    page = (ROOT / "docs" / "handlers.md").read_text(encoding="utf-8")
    function, test = (next(b for b in blocks(page, "python") if begins in b) for begins in ("def handle", "assert "))
    space: dict[str, Any] = {}
    exec(function, space)
    exec(test, space)
    for text in blocks(page, "python"):
        compile(text, "handlers.md", "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT


def test_handlers_md_describes_the_whole_event_and_emit() -> None:
    page = (ROOT / "docs" / "handlers.md").read_text(encoding="utf-8")
    table = page.split("### What comes in")[1].split("###")[0]
    told = set(words(table, r"[a-z_]+"))
    # `id` is not described: nothing sets it yet.
    assert {name for name in dir(Event) if not name.startswith("_")} - {"id"} <= told
    assert all(f"`{name}`" in page or f"{name}=" in page for name in Emit.__slots__)


# -- dead letters -----------------------------------------------------------------------------------------------------


def fullest() -> set[str]:
    """The headers of a letter about which everything is known."""
    failed = Failed("schema", "no", "ContractError", "Traceback", "f:1", violations=(("$.a", "no"),))
    death = Death("schema", failed, 1, 1.0, 2.0, event_id="e", exit="9")
    record = Record("in", 0, 1, 2, b"k", b"{}", ())
    letter = write_letter(record, Sender("g", "p", "h"), death, "in.dlq", 3, CUTS[0])
    return {name.removeprefix(PREFIX) for name, _ in letter.headers}


def test_every_header_of_a_dead_letter_is_described() -> None:
    page = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")
    table = page.split("## Headers")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, flags=re.MULTILINE)
    assert {name for row in rows for name in words(row, r"[a-z-]+")} == fullest()


def test_every_reason_and_every_attribute_of_a_letter_is_described() -> None:
    page = (ROOT / "docs" / "dead-letters.md").read_text(encoding="utf-8")
    reasons = page.split("## Reasons")[1].split("\n## ")[0]
    told = set(re.findall(r"^\| `([a-z]+)` \|", reasons, flags=re.MULTILINE))
    assert told == set(get_args(Reason))
    attributes = set(
        page.split("`event.letter` has")[1].split("and all headers")[0].replace("`", " ").replace(",", " ").split()
    )
    assert attributes | {"headers"} == set(Letter.__dataclass_fields__)
