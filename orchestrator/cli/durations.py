"""Durations on the command line: `500ms`, `30s`, `10m`, `2h`, `unlimited`."""

from __future__ import annotations

from typing import Any

import click


class Duration(click.ParamType[float]):
    """Seconds; infinite for `unlimited`. A bare number would leave its unit open."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from orchestrator.config.units import seconds

        if isinstance(value, float):
            return value
        try:
            return seconds(value)
        except ValueError:
            self.fail(f"{value!r} is no duration: write a number and a unit, such as 500ms, 30s or 10m", param, ctx)


DURATION = Duration()
