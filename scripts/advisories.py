"""Which lower bounds of kpipe's dependencies have known holes: `make advisories`.

    python scripts/advisories.py [EXPORT…]

EXPORT is a file or a folder with advisories: records of OSV (one in a file, a list, `{"vulns": […]}`, or a zip with
many, as osv.dev publishes them), or what `pip-audit --format json` wrote. Without one `pip-audit` is asked, if it is
installed. This script itself connects to nothing.

Ends with 0 when no lower bound has a hole, with 1 when one has, and with 2 when it could not look.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@dataclass(frozen=True, slots=True)
class Bound:
    """A dependency, the oldest version that it allows, and where pyproject.toml names it."""

    name: str
    version: Version
    group: str


@dataclass(frozen=True, slots=True)
class Hole:
    bound: Bound
    id: str
    fixed: tuple[str, ...]
    summary: str

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed)}" if self.fixed else "not fixed"
        return f"{self.bound.name}>={self.bound.version} ({self.bound.group}): {self.id}, {fixed}: {self.summary}"


def bounds(pyproject: Path) -> Iterator[Bound]:
    """Every dependency with a lower bound; the project itself, which its extras name, is none."""
    project = tomllib.loads(pyproject.read_text("utf-8"))["project"]
    groups = {"dependencies": project["dependencies"], **project.get("optional-dependencies", {})}
    for group, words in groups.items():
        for requirement in map(Requirement, words):
            oldest = [spec.version for spec in requirement.specifier if spec.operator in (">=", "~=", "==", ">")]
            if oldest:
                yield Bound(canonicalize_name(requirement.name), max(map(Version, oldest)), group)


def holes(bound: Bound, advisories: Sequence[dict[str, Any]]) -> Iterator[Hole]:
    """The advisories that affect exactly this version."""
    for record in advisories:
        if "dependencies" in record:
            yield from _audited(bound, record)
        elif not record.get("withdrawn"):
            concerned = [one for one in record.get("affected", ()) if _is_about(one, bound)]
            if any(_affects(one, bound.version) for one in concerned):
                fixed = {event["fixed"] for one in concerned for event in _events(one) if "fixed" in event}
                summary = str(record.get("summary") or record.get("details") or "").partition("\n")[0]
                yield Hole(bound, str(record.get("id")), tuple(sorted(fixed)), summary)


def _is_about(affected: dict[str, Any], bound: Bound) -> bool:
    package = affected.get("package", {})
    return package.get("ecosystem") == "PyPI" and canonicalize_name(package.get("name", "")) == bound.name


def _affects(affected: dict[str, Any], version: Version) -> bool:
    """By the list of versions, or by a range (the OSV schema's evaluation)."""
    if any(_version(text) == version for text in affected.get("versions", ())):
        return True
    return any(_within(span["events"], version) for span in affected.get("ranges", ()) if span["type"] == "ECOSYSTEM")


def _within(events: Sequence[dict[str, str]], version: Version) -> bool:
    steps = [(at, kind) for event in events for kind, text in event.items() if (at := _version(text)) is not None]
    inside = False
    for at, kind in sorted(steps):
        if kind == "introduced" and version >= at:
            inside = True
        elif (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            inside = False
    return inside


def _events(affected: dict[str, Any]) -> Iterator[dict[str, str]]:
    for span in affected.get("ranges", ()):
        if span["type"] == "ECOSYSTEM":
            yield from span["events"]


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _audited(bound: Bound, report: dict[str, Any]) -> Iterator[Hole]:
    """pip-audit tells of the versions that it was asked for: only those that are the bound count."""
    for one in report["dependencies"]:
        if canonicalize_name(one["name"]) == bound.name and _version(one.get("version", "")) == bound.version:
            for hole in one.get("vulns", ()):
                summary = str(hole.get("description", "")).partition("\n")[0]
                yield Hole(bound, str(hole["id"]), tuple(hole.get("fix_versions", ())), summary)


def read(place: Path) -> Iterator[dict[str, Any]]:
    """The records of a file or a folder. Raises OSError, ValueError and zipfile.BadZipFile."""
    if place.is_dir():
        for path in sorted(place.rglob("*.json")):
            yield from _records(path.read_bytes())
    elif place.suffix == ".zip":
        with zipfile.ZipFile(place) as packed:
            for name in packed.namelist():
                yield from _records(packed.read(name))
    else:
        yield from _records(place.read_bytes())


def _records(text: bytes) -> Iterator[dict[str, Any]]:
    document = json.loads(text)
    if isinstance(document, dict) and "vulns" in document:
        document = document["vulns"]
    for record in document if isinstance(document, list) else [document]:
        if not isinstance(record, dict):
            raise ValueError("no advisory")
        yield record


def audit(wanted: Sequence[Bound]) -> list[dict[str, Any]]:
    """pip-audit's report on exactly the lower bounds; nothing is installed for it. Raises ValueError."""
    if importlib.util.find_spec("pip_audit") is None:
        raise ValueError("no file with advisories was given, and pip-audit is not installed")
    with tempfile.TemporaryDirectory() as folder:
        lines = sorted({f"{bound.name}=={bound.version}" for bound in wanted})
        (Path(folder) / "bounds.txt").write_text("\n".join(lines) + "\n")
        words = ["-r", "bounds.txt", "--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(
            [sys.executable, "-m", "pip_audit", *words], cwd=folder, capture_output=True, text=True, check=False
        )
    try:
        return list(_records(done.stdout.encode()))
    except ValueError:
        raise ValueError(f"pip-audit gave no answer: {done.stderr.strip().splitlines()[-1:]}") from None


def main(argv: Sequence[str], pyproject: Path = PYPROJECT) -> int:
    wanted = list(bounds(pyproject))
    try:
        places = [Path(word) for word in argv]
        advisories = [record for place in places for record in read(place)] if places else audit(wanted)
    except (OSError, ValueError, zipfile.BadZipFile) as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    known = sorted({str(hole) for bound in wanted for hole in holes(bound, advisories)})
    print("\n".join(known) if known else f"none of {len(wanted)} lower bounds has a known hole")
    return 1 if known else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
