"""`make advisories`: lower bounds beside advisories out of a file."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "advisories.py"
PROJECT = """\
[project]
dependencies = ["Orjson>=3.10", "click>=8.2", "nobound"]
[project.optional-dependencies]
example = ["kpipe", "starlette[full]>=0.40,<2"]
"""


def osv(name: str, *events: dict[str, str], **more: Any) -> dict[str, Any]:
    package = {"ecosystem": "PyPI", "name": name}
    affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": list(events)}]}
    return {"id": f"GHSA-{name}", "summary": f"{name} has a hole", "affected": [affected], **more}


ORJSON = osv("orjson", {"introduced": "0"}, {"fixed": "3.11.6"})


def look(tmp_path: Path, *exports: Path) -> tuple[int, str]:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    code = "import runpy, sys; from pathlib import Path; made = runpy.run_path(sys.argv[1]); "
    code += "sys.exit(made['main'](sys.argv[3:], Path(sys.argv[2])))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(SCRIPT), str(tmp_path / "pyproject.toml"), *map(str, exports)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def export(tmp_path: Path, document: Any) -> Path:
    (tmp_path / "export.json").write_text(json.dumps(document))
    return tmp_path / "export.json"


def test_a_bound_below_the_fix_is_shown(tmp_path: Path) -> None:
    code, text = look(tmp_path, export(tmp_path, ORJSON))
    assert (code, text) == (1, "orjson>=3.10 (dependencies): GHSA-orjson, fixed in 3.11.6: orjson has a hole\n")


def test_extras_count(tmp_path: Path) -> None:
    both = [osv("Starlette", {"introduced": "0.39"}, {"fixed": "1.0.1"}), ORJSON]
    code, text = look(tmp_path, export(tmp_path, {"vulns": both}))
    assert code == 1 and "starlette>=0.40 (example)" in text and "orjson>=3.10" in text


@pytest.mark.parametrize(
    "record",
    [
        osv("orjson", {"introduced": "0"}, {"fixed": "3.10"}),
        osv("orjson", {"introduced": "3.10.1"}),
        osv("orjson", {"introduced": "3"}, {"last_affected": "3.9.15"}),
        osv("orjson", {"introduced": "0"}, {"fixed": "3.9"}, {"introduced": "3.11"}, {"fixed": "3.11.6"}),
        ORJSON | {"withdrawn": "2026-01-01T00:00:00Z"},
        osv("other", {"introduced": "0"}),
        osv("nobound", {"introduced": "0"}),
        {"id": "X", "affected": [{"package": {"ecosystem": "npm", "name": "orjson"}, "versions": ["3.10"]}]},
    ],
    ids=["fixed", "later", "last", "between", "withdrawn", "other", "no bound", "npm"],
)
def test_what_does_not_concern_the_bound(tmp_path: Path, record: dict[str, Any]) -> None:
    code, text = look(tmp_path, export(tmp_path, record))
    assert (code, text) == (0, "none of 3 lower bounds has a known hole\n")


def test_a_list_of_versions(tmp_path: Path) -> None:
    record = osv("orjson")
    record["affected"][0]["versions"] = ["3.9.0", "3.10.0"]
    assert look(tmp_path, export(tmp_path, record))[0] == 1


def test_folders_and_zips_with_many(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number, record in enumerate((ORJSON, osv("other", {"introduced": "0"}))):
        (folder / f"{number}.json").write_text(json.dumps(record))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as packed:
        for path in folder.iterdir():
            packed.write(path, path.name)
    assert look(tmp_path, folder) == look(tmp_path, tmp_path / "all.zip")
    assert look(tmp_path, folder)[0] == 1


def test_what_pip_audit_wrote(tmp_path: Path) -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["3.11.6"], "description": "A hole\nand more"}
    report = {"dependencies": [{"name": "orjson", "version": "3.10", "vulns": [hole]}], "fixes": []}
    code, text = look(tmp_path, export(tmp_path, report))
    assert (code, text) == (1, "orjson>=3.10 (dependencies): PYSEC-1, fixed in 3.11.6: A hole\n")
    report["dependencies"][0]["version"] = "3.12"  # type: ignore[index]
    assert look(tmp_path, export(tmp_path, report))[0] == 0


@pytest.mark.parametrize("text", [None, "{", "[1]", ""])
def test_a_file_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "export.json").write_text(text)
    code, shown = look(tmp_path, tmp_path / "export.json")
    assert code == 2 and shown.startswith("error: ")


@pytest.mark.skipif(importlib.util.find_spec("pip_audit") is not None, reason="pip-audit is installed")
def test_without_a_file_and_without_pip_audit_it_says_so(tmp_path: Path) -> None:
    code, text = look(tmp_path)
    assert code == 2 and "pip-audit is not installed" in text


def test_kpipes_own_bounds_are_above_the_holes_that_are_known(tmp_path: Path) -> None:
    records = [ORJSON, osv("starlette", {"introduced": "0"}, {"fixed": "1.0.1"})]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(export(tmp_path, records))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
