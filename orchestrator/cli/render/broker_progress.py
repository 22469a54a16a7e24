"""Progress of a broker that is fetched and started, on stderr: steps as lines, a download's share as it grows."""

from __future__ import annotations

from orchestrator.brokers import Progress
from orchestrator.cli.render import output

_MB = 1_000_000
_BAR = 24


class Steps:
    """A `Notify`. A download is one moving line on a terminal, and a line per quarter elsewhere (logs of CI)."""

    def __init__(self) -> None:
        self._shown: tuple[str, int] | None = None

    def __call__(self, step: Progress) -> None:
        if step.done is None:
            output.say(output.safe(step.text))
        elif output.animated():
            self._move(step)
        else:
            self._quarter(step, step.done)

    def _move(self, step: Progress) -> None:
        share = _share(step)
        at = (step.text, -1 if share is None else round(share * 1000))
        if at != self._shown or share is None:
            self._shown = at
            output.in_place("" if share == 1 else f"{output.safe(step.text)}{_bar(share)}  {_amount(step)}")

    def _quarter(self, step: Progress, done: int) -> None:
        share = _share(step)
        # Without a known size: every 25 MB.
        at = (step.text, done // (25 * _MB) if share is None else int(share * 4))
        if at != self._shown:
            self._shown = at
            output.say(f"{output.safe(step.text)}: {_amount(step)}")


def _share(step: Progress) -> float | None:
    return min((step.done or 0) / step.total, 1.0) if step.total else None


def _bar(share: float | None) -> str:
    if share is None:
        return ""
    full = round(share * _BAR)
    return f"  {'━' * full}{'╌' * (_BAR - full)} {share:4.0%}"


def _amount(step: Progress) -> str:
    done = (step.done or 0) / _MB
    return f"{done:.0f} of {step.total / _MB:.0f} MB" if step.total else f"{done:.0f} MB"
