"""The wheel, installed away from the checkout: everything is in it, and it runs.

An editable install finds every file of the checkout, and so hides one that the wheel lacks.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

ROOT = Path(__file__).parents[2]
#: Every module of the package by its name, and where it was found.
IMPORT_ALL = """
import importlib, pathlib, sys, orchestrator
root = pathlib.Path(orchestrator.__file__).parent
for path in sorted(root.rglob("*.py")):
    parts = path.relative_to(root.parent).with_suffix("").parts
    if "template" not in parts:
        importlib.import_module(".".join(part for part in parts if part != "__init__"))
print(root)
"""


def run(*argv: str | Path, cwd: Path, env: dict[str, str] | None = None, seconds: float = 300) -> str:
    """stdout of a program that has to end with 0."""
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def tracked() -> list[str]:
    """The files of the checkout that git knows, so that nothing else rides along."""
    names = run("git", "ls-files", "-z", "orchestrator", "pyproject.toml", "README.md", "LICENSE", cwd=ROOT)
    return [name for name in names.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("source")
    for name in tracked():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    out = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--disable-pip-version-check",
        "--no-deps",
        "-w",
        out,
        ".",
        cwd=source,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that has the wheel and what it depends on, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    pip = (folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check")
    # The Java of the extra `local`: Kafka needs one, and this machine may have none.
    run(*pip, f"{wheel}[local]", cwd=folder.parent)
    return folder / "bin"


def clean(bin_folder: Path, **more: str) -> dict[str, str]:
    """An environment by which nothing of the checkout is found."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "JAVA_HOME", "TMPDIR") if name in os.environ}
    path = [str(bin_folder), *(p for p in os.environ["PATH"].split(os.pathsep) if ".venv" not in p)]
    return {**kept, "PATH": os.pathsep.join(path), **more}


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("orchestrator/")}
    assert inside == {name for name in tracked() if name.startswith("orchestrator/")}


def test_every_module_of_the_wheel_imports(installed: Path, tmp_path: Path) -> None:
    place = run(installed / "python", "-c", IMPORT_ALL, cwd=tmp_path, env=clean(installed)).strip()
    assert Path(place).is_relative_to(installed.parent)


@pytest.mark.kafka
def test_a_new_project_runs_on_it(installed: Path, tmp_path: Path, kafka: str) -> None:
    namespace = f"t{uuid.uuid4().hex[:10]}"
    env = clean(installed, KAFKA_BOOTSTRAP=kafka, KPIPE_ENV=namespace)
    kpipe = installed / "kpipe"
    run(kpipe, "init", "greetings", cwd=tmp_path, env=env)
    project = tmp_path / "greetings"
    try:
        run(kpipe, "validate", cwd=project, env=env)
        try:
            run(kpipe, "up", "-d", "--wait", cwd=project, env=env)
            run(kpipe, "send", "greeting", "--set", "name=Ada", cwd=project, env=env)
            waiting = ("-o", "beginning", "--expect", "1", "--timeout", "60s", "--json")
            assert "Hello, Ada!" in run(kpipe, "tail", "greetings.given", *waiting, cwd=project, env=env)
        finally:
            run(kpipe, "down", cwd=project, env=env)
        run(kpipe, "smoke", cwd=project, env=env)
    finally:
        admin = AdminClient({"bootstrap.servers": kafka})
        mine = [name for name in admin.list_topics(timeout=10).topics if namespace in name]
        for future in (admin.delete_topics(mine) if mine else {}).values():
            future.result(10)
