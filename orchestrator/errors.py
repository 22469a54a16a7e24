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

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_DRIFT = 3
EXIT_BROKER = 4
EXIT_HANDLER = 5
EXIT_EXPECTATION = 6
EXIT_TIMEOUT = 124


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
