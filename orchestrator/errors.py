"""Every error kpipe raises on purpose: one tree, each class with its exit code and a hint.

The exit codes are those of the command line (README, "Exit codes"): whatever reaches `cli/main.py` as a
`KpipeError` is printed as one message with its hint, and the process ends with `exit_code`. Anything else that
gets there is a bug in kpipe and ends with 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from orchestrator.records import Finding

# What the command `kpipe` ends with (docs/cli.md).
EXIT_OK = 0
#: A bug in kpipe, or something nobody foresaw.
EXIT_UNEXPECTED = 1
#: Invalid arguments, or an invalid pipeline file.
EXIT_USAGE = 2
#: The cluster is not as the file says.
EXIT_DRIFT = 3
#: No Kafka, or it refused.
EXIT_BROKER = 4
#: A handler failed for good.
EXIT_HANDLER = 5
#: A smoke scenario did not see what it expects.
EXIT_EXPECTATION = 6
#: Not within the time that was given, as `timeout` reports it.
EXIT_TIMEOUT = 124
#: 128 + the number of the signal, as shells report it: SIGINT and SIGPIPE.
EXIT_INTERRUPTED = 130
EXIT_CLOSED_OUTPUT = 141

# What a child process ends with, for its supervisor.
#: A handler did not return, and could not be cancelled.
EXIT_HUNG = 75
#: A handler used more memory than it may.
EXIT_MEMORY = 76
#: One of the worker's topics was made anew: its successor goes on there, and nothing has failed.
EXIT_RENEWED = 77
#: It could not start, and starting it again cannot help (EX_CONFIG of sysexits.h).
EXIT_COULD_NOT_START = 78


class KpipeError(Exception):
    """What went wrong in one sentence, and what to do about it.

    `message` names the place and the reason; `hint` the next step ("" when the message says it all).
    """

    exit_code = EXIT_UNEXPECTED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(KpipeError):
    """The words of a command are wrong, or what they ask for cannot be done."""

    exit_code = EXIT_USAGE


class FindingsError(KpipeError):
    """The pipeline file (or what it names) is wrong; `findings` has every reason at once."""

    exit_code = EXIT_USAGE

    def __init__(self, findings: Sequence[Finding], message: str = "", hint: str = "") -> None:
        errors = sum(1 for f in findings if f.severity == "error")
        super().__init__(message or f"{errors} error{'s' if errors != 1 else ''} in the pipeline file", hint)
        self.findings = tuple(findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings without the warnings."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def __str__(self) -> str:
        """The errors on one line, each with its place: for logs, where nobody prints the findings."""
        return "; ".join(f"{finding.place}: {finding.message}" for finding in self.errors) or self.message


class ContractError(KpipeError):
    """A value breaks its topic's contract; `violations` are `(json_path, reason)` pairs."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, violations: Sequence[tuple[str, str]], hint: str = "") -> None:
        super().__init__(message, hint)
        self.violations = tuple(violations)


class DriftError(KpipeError):
    """The cluster is not as declared (`topics sync --check`)."""

    exit_code = EXIT_DRIFT


class IncompatibleError(KpipeError):
    """A contract changed in a way that breaks a compatibility it has to keep."""

    exit_code = EXIT_DRIFT


class BrokerError(KpipeError):
    """Kafka cannot be reached, cannot be started, or refused."""

    exit_code = EXIT_BROKER


class ForbiddenError(BrokerError):
    """Kafka knows who asks and does not allow it; `missing` are the permissions, such as `READ on the topic orders`."""

    def __init__(self, missing: Iterable[object]) -> None:
        named = ", ".join(map(str, missing))
        super().__init__(
            f"Kafka does not allow this user: {named}",
            "whoever looks after the cluster adds an ACL for it: docs/security.md lists what each command needs",
        )


class HandlerError(KpipeError):
    """A handler could not start, or failed for good."""

    exit_code = EXIT_HANDLER


class ExpectationError(KpipeError):
    """What was expected is not there (`tail --expect`)."""

    exit_code = EXIT_EXPECTATION


class WaitTimeout(KpipeError):
    """What was waited for did not happen in time."""

    exit_code = EXIT_TIMEOUT
