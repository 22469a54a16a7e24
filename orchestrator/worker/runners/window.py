"""How many events a program is given before it has answered: enough to keep it busy, few enough to take back.

A program that is idle while a reply and the next request travel wastes most of its time; one that has an hour's work in
its pipe makes every rebalance and every stop wait, or do that work twice. So the window follows the program: it grows
while replies come at once, and shrinks when an event has waited long.
"""

from __future__ import annotations

#: An answer that came within this time wants more events in the pipe; one that took longer than that, fewer (seconds).
PROMPT_SECONDS = 0.02
SLOW_SECONDS = 0.1
FIRST, MOST = 16, 512


class SendWindow:
    """`size` is how many events may be unanswered. Time is an argument, in seconds."""

    def __init__(self, fixed: int | None = None) -> None:
        """`fixed`: a window that always is as large."""
        self._fixed = fixed
        self.size = fixed or FIRST

    def answered(self, waited: float, unanswered: int) -> None:
        """An event was answered `waited` seconds after it had been sent, while `unanswered` were in the pipe."""
        if self._fixed is not None:
            return
        if waited > SLOW_SECONDS:
            self.size = max(1, min(self.size, unanswered) // 2)
        elif waited < PROMPT_SECONDS and unanswered >= self.size // 2:
            self.size = min(MOST, self.size + 1)
