"""git in somebody else's checkout: nothing that its configuration names is run, and nothing is fetched."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.operations.schemas.git import Git, Unreadable
from orchestrator.operations.schemas.versions import Revision, default_version
from tests.support.shell import Done, kpipe

PIPELINE = """\
kpipe: 1
pipeline: shop
kafka: {bootstrap: "127.0.0.1:1"}
topics:
  orders: {key: id, schema: schemas/order.json}
"""
EARLIER = '{"type": "object", "properties": {"id": {"type": "string"}, "note": {"type": "string"}}, "required": ["id"]}'
NOW = EARLIER.replace('"note": {"type": "string"}', '"note": {"type": "number"}')


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A project with two commits, and a change in its folder that breaks the contract."""
    folder = tmp_path / "checkout"
    (folder / "schemas").mkdir(parents=True)
    (folder / "pipeline.yaml").write_text(PIPELINE)
    (folder / "schemas" / "order.json").write_text(EARLIER)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    (folder / "schemas" / "order.json").write_text(NOW)
    return folder


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a trace of every start of it."""
    program = tmp_path / "trap"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/sprung\nexit 1\n')
    program.chmod(0o755)
    return program


def sprung(trap: Path) -> str:
    trace = trap.with_name("sprung")
    return trace.read_text() if trace.exists() else ""


def check(folder: Path, against: str = "HEAD", **env: str) -> Done:
    return kpipe(folder, "schemas", "check", "--against", against, env=env)


def breaks(done: Done) -> bool:
    return done.code == 3 and "orders" in done.out


def every_occasion(folder: Path, trap: Path) -> None:
    """Everything in a configuration for which git starts a program."""
    for name in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "core.gitProxy", "core.askPass", "core.editor",
        "core.alternateRefsCommand", "pager.show", "pager.cat-file", "diff.external", "diff.trap.textconv",
        "diff.trap.command", "filter.trap.smudge", "filter.trap.process", "gpg.program", "credential.helper",
        "alias.show", "alias.cat-file", "remote.origin.uploadpack", "uploadpack.packObjectsHook",
        "interactive.diffFilter", "sequence.editor", "merge.trap.driver", "browser.trap.cmd", "man.trap.cmd",
    ):  # fmt: skip
        git(folder, "config", name, str(trap))
    git(folder, "config", "core.hooksPath", str(folder / "hooks"))
    (folder / "hooks").mkdir(exist_ok=True)
    for hook in ("post-checkout", "post-index-change", "reference-transaction", "fsmonitor-watchman", "pre-auto-gc"):
        (folder / "hooks" / hook).symlink_to(trap)
    (folder / ".gitattributes").write_text("* diff=trap filter=trap merge=trap\n")


def test_nothing_that_the_configuration_names_is_run(checkout: Path, trap: Path) -> None:
    every_occasion(checkout, trap)
    assert breaks(check(checkout))
    assert sprung(trap) == ""


def partial(checkout: Path, tmp_path: Path) -> Path:
    """A clone without the contents of its first commit, and what is in its folder as in `checkout`."""
    git(checkout, "config", "uploadpack.allowFilter", "true")
    git(checkout, "commit", "-qam", "second")
    folder = tmp_path / "partial"
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{checkout}", str(folder))
    return folder


class TestPartialClone:
    @pytest.mark.parametrize(
        "settings",
        [
            {"remote.origin.url": "ext::TRAP"},
            {"remote.origin.uploadpack": "TRAP"},
            {"remote.origin.url": "ssh://host.invalid/x", "core.sshCommand": "TRAP", "ssh.variant": "simple"},
            {"remote.origin.url": "git://host.invalid/x", "core.gitProxy": "TRAP"},
            {"remote.origin.url": "x", "remote.origin.vcs": "ext", "protocol.ext.allow": "always"},
        ],
        ids=["ext", "upload-pack", "ssh", "proxy", "helper"],
    )
    def test_what_is_missing_is_not_fetched(
        self, checkout: Path, trap: Path, tmp_path: Path, settings: dict[str, str]
    ) -> None:
        folder = partial(checkout, tmp_path)
        git(folder, "config", "protocol.allow", "always")
        for name, value in settings.items():
            git(folder, "config", name, value.replace("TRAP", str(trap)))
        done = check(folder, "HEAD~1")
        assert sprung(trap) == ""
        assert done.code == 2 and "partial clone" in done.err and "Traceback" not in done.err

    def test_a_contract_that_is_missing_is_not_taken_for_a_new_one(self, checkout: Path, tmp_path: Path) -> None:
        """With a remote that could be asked: kpipe would say that nothing breaks."""
        folder = partial(checkout, tmp_path)
        with pytest.raises(Unreadable, match="cannot be read from the git repository"):
            Revision(folder, "HEAD~1").read(folder / "schemas" / "order.json")
        assert Revision(folder, "HEAD").read(folder / "schemas" / "order.json") == NOW.encode()
        with pytest.raises(FileNotFoundError):
            Revision(folder, "HEAD").read(folder / "schemas" / "other.json")


def test_a_bare_repository_among_the_files_is_not_the_projects(tmp_path: Path, checkout: Path, trap: Path) -> None:
    """It comes along with a checkout as plain files, and its configuration with it: it names a work tree."""
    bare = tmp_path / "outer" / "data"
    git(tmp_path, "clone", "-q", "--bare", str(checkout), str(bare))
    git(bare, "config", "core.bare", "false")
    git(bare, "config", "core.worktree", str(bare))
    every_occasion(bare, trap)
    with pytest.raises(UsageError, match="is in no git repository"):
        Revision(bare, "HEAD")
    assert default_version(bare) is None


def test_the_users_environment_leads_to_no_other_repository(checkout: Path, trap: Path, tmp_path: Path) -> None:
    """As git's hooks set it for what they start; and a program that would show differences."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    done = check(
        checkout, GIT_DIR=str(other / ".git"), GIT_WORK_TREE=str(other), GIT_EXTERNAL_DIFF=str(trap),
        GIT_CONFIG_COUNT="1", GIT_CONFIG_KEY_0="core.fsmonitor", GIT_CONFIG_VALUE_0=str(trap), GIT_TRACE="1",
    )  # fmt: skip
    assert breaks(done) and sprung(trap) == ""


def test_secrets_stay_with_kpipe(checkout: Path, tmp_path: Path) -> None:
    """git itself is replaced by one that writes down what it gets."""
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\npwd > {tmp_path}/where\nexit 1\n")
    fake.chmod(0o755)
    done = check(checkout, PATH=f"{fake.parent}:/usr/bin:/bin", DB_PASSWORD="hunter2", GIT_CEILING_DIRECTORIES="/kept")
    seen = dict(line.partition("=")[::2] for line in (tmp_path / "seen").read_text().splitlines())
    assert done.code == 2
    assert "DB_PASSWORD" not in seen and seen["GIT_CEILING_DIRECTORIES"] == "/kept"
    assert (seen["GIT_ALLOW_PROTOCOL"], seen["GIT_NO_LAZY_FETCH"]) == ("none", "1")
    assert (tmp_path / "where").read_text() == "/\n"


@pytest.mark.parametrize("path", ["", ".", "bin", ":/nowhere"])
def test_a_git_among_the_files_is_not_run(checkout: Path, trap: Path, path: str) -> None:
    for place in (checkout / "git", checkout / "bin" / "git"):
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(trap)
    done = kpipe(checkout, "schemas", "check", env={"PATH": path})
    assert (done.code, sprung(trap)) == (2, "")
    assert "git is not installed" in done.err


class TestEndless:
    def test_a_configuration_that_never_ends(
        self, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.mkfifo(tmp_path / "pipe")
        with (checkout / ".git" / "config").open("a") as config:
            config.write(f"[include]\n\tpath = {tmp_path}/pipe\n")
        monkeypatch.setattr("orchestrator.operations.schemas.git._SECONDS", 1.0)
        began = time.monotonic()
        for look in (lambda: Revision(checkout, "HEAD"), lambda: default_version(checkout)):
            with pytest.raises(Unreadable, match="did not end within 1 s") as caught:
                look()
            assert caught.value.exit_code == 2
        assert time.monotonic() - began < 30

    def test_a_file_that_is_too_large(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("orchestrator.operations.schemas.versions.LARGEST", 20)
        with pytest.raises(Unreadable, match="is larger than"):
            Revision(checkout, "HEAD").read(checkout / "schemas" / "order.json")


class TestOrdinary:
    """What a repository of one's own gives is the same as before."""

    def test_names_of_any_kind(self, checkout: Path) -> None:
        names = ["sp ace.json", "*.json", "ümläut.json", "new\nline.json", ":(top).json", "-dash.json", "[a].json"]
        for name in names:
            (checkout / "schemas" / name).write_text(name)
        git(checkout, "add", "-A")
        git(checkout, "commit", "-qm", "names")
        revision = Revision(checkout, "HEAD")
        for name in names:
            assert revision.read(checkout / "schemas" / name) == name.encode()
        listed = {path.name for path in revision.schemas(checkout / "schemas")}
        assert listed == {*names, "order.json"}

    def test_a_folder_is_no_file(self, checkout: Path) -> None:
        with pytest.raises(FileNotFoundError):
            Revision(checkout, "HEAD").read(checkout / "schemas")

    def test_a_project_below_the_top(self, tmp_path: Path, checkout: Path) -> None:
        revision = Revision(checkout / "schemas", "HEAD")
        assert revision.read(checkout / "schemas" / "order.json") == EARLIER.encode()
        assert revision.read(checkout / "pipeline.yaml") == PIPELINE.encode()

    @pytest.mark.parametrize("words", [("rev-parse", "HEAD"), ("cat-file", "-p", "HEAD")])
    def test_the_options_are_known_to_this_git(self, checkout: Path, words: tuple[str, ...]) -> None:
        assert Git(checkout, os.environ).run(*words)


def test_the_traps_are_real(checkout: Path, trap: Path, tmp_path: Path) -> None:
    """Without kpipe's precautions git runs what this file plants: else the tests above would prove nothing."""
    folder = partial(checkout, tmp_path)
    git(folder, "config", "remote.origin.uploadpack", str(trap))
    subprocess.run(["git", "show", "HEAD~1:schemas/order.json"], cwd=folder, capture_output=True, check=False)
    assert "trap" in sprung(trap)
