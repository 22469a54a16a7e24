"""Services and child processes: commands, ports, environment."""

from __future__ import annotations

import shlex

from orchestrator.config.checks.facts import PipelineFacts
from orchestrator.config.handlers import layered
from orchestrator.config.syntax.document import dotted
from orchestrator.config.syntax.nodes import Path

#: What kpipe itself tells its children through the environment.
RESERVED = frozenset(
    (
        "KPIPE_BOOTSTRAP",
        "KPIPE_CONFIG_FD",
        "KPIPE_CONTROL_SOCKET",
        "KPIPE_FOREIGN_CONFIG",
        "KPIPE_HANDLER",
        "KPIPE_IN_FD",
        "KPIPE_LISTEN_FD",
        "KPIPE_OUT_FD",
        "KPIPE_PIPELINE_FILES",
        "KPIPE_PUBLISH_TOKEN",
        "KPIPE_PUBLISH_URL",
        "KPIPE_STATUS_FD",
    )
)


#: Linux takes 131,072 bytes for one word of a command. Splitting takes its time.
MAX_COMMAND = 100_000


def check(facts: PipelineFacts) -> None:
    """All rules about child processes."""
    ports: dict[int, str] = {}
    for name, own in facts.handlers.items():
        _check_command(facts, name)
        _check_words(facts, name)
        if "port" in own and "service" in own:
            _check_port(facts, name, ports)
    _check_env(facts, "defaults", "handler")
    for name in facts.handlers:
        _check_env(facts, "handlers", name)


def _check_command(facts: PipelineFacts, name: str) -> None:
    command = facts.doc.get("handlers", name, "service")
    if command is None:
        return
    path = ("handlers", name, "service")
    if len(command) > MAX_COMMAND:
        message = f"handlers.{name}.service: the command is longer than {MAX_COMMAND:,} characters"
        facts.doc.find("command", path, message, "no system takes such a command")
        return
    try:
        words = shlex.split(command)
    except ValueError:
        message = f"handlers.{name}.service: a quote or a backslash in the command has no end"
        facts.doc.find("command", path, message, "it is split like a shell does")
    else:
        if not words[0]:
            facts.doc.find("command", path, f"handlers.{name}.service: the command has no program")


def _check_words(facts: PipelineFacts, name: str) -> None:
    """Everybody on this machine can list processes with their arguments; their environment only their user can read."""
    words: list[Path] = [
        ("handlers", name, "exec", index) for index in range(len(facts.doc.get("handlers", name, "exec") or ()))
    ]
    words += [("handlers", name, "service"), ("handlers", name, "interpreter")]
    for path in words:
        if facts.doc.has_reference(path):
            message = "the words of a command are in the list of processes, which everybody on this machine can read"
            hint = "give a secret to the program as a variable under `env`"
            facts.doc.warn("process-list", path, f"{dotted(path)}: {message}", hint)


def _check_port(facts: PipelineFacts, name: str, ports: dict[int, str]) -> None:
    port = facts.doc.get("handlers", name, "port")
    path = ("handlers", name, "port")
    other = ports.setdefault(port, name)
    if other != name:
        message = f"`{name}` and `{other}` have the same port {facts.doc.shown(port)}"
        facts.doc.find("port", path, message, "each service needs a port of its own")
    if layered(facts.doc.tree, facts.handlers[name])["replicas"] > 1:
        message = f"the replicas of `{name}` cannot all listen on port {facts.doc.shown(port)}"
        facts.doc.find("port", path, message, "a service with a port has one replica")


def _check_env(facts: PipelineFacts, section: str, name: str) -> None:
    for variable in facts.doc.section(section, name, "env"):
        if variable in RESERVED:
            path = (section, name, "env", variable)
            facts.doc.find("env", path, f"kpipe sets `{variable}` itself", "choose another name", key=True)
    named = facts.doc.get(section, name, "inherit-env")
    for index, variable in enumerate(named if isinstance(named, list) else ()):
        if variable in RESERVED:
            place = (section, name, "inherit-env", index)
            facts.doc.find("env", place, f"kpipe sets `{variable}` itself", "remove it: the handler gets kpipe's value")
